"""The models that are measured: one that returns its input, and a small network whose weights a batch reads once."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.tensor_models.onnx_models import import_tensors, same, save, tensor

SAME, ALONE, BATCHED = "same", "alone", "batched"
WIDTH = 1024
MAX_BATCH = 32
_LAYERS = 8


@dataclass(frozen=True, slots=True)
class Graphs:
    """The files of the models."""

    same: Path
    """y [n] = x [n] of FP32."""
    network: Path
    """y [batch, WIDTH] of x [batch, WIDTH], 32 MB of weights."""

    def of(self, model: str) -> Path:
        """The file of a model."""
        return self.same if model == SAME else self.network


def write_models(folder: Path) -> Graphs:
    """Writes the files."""
    return Graphs(same(folder / "same.onnx", TensorProto.FLOAT), _network(folder / "network.onnx"))


def import_models(graphs: Graphs, root: Path) -> None:
    """Imports them for the mesh: the network twice, once to be batched."""
    import_tensors(graphs.same, root, SAME, max_batch=1)
    import_tensors(graphs.network, root, ALONE, max_batch=1)
    import_tensors(graphs.network, root, BATCHED, max_batch=MAX_BATCH)


def _network(path: Path) -> Path:
    random = np.random.default_rng(3)
    names = ["x", *(f"h{layer}" for layer in range(_LAYERS - 1)), "y"]
    weights = [
        numpy_helper.from_array(random.standard_normal((WIDTH, WIDTH)).astype(np.float32) / WIDTH**0.5, f"w{layer}")
        for layer in range(_LAYERS)
    ]
    nodes = [helper.make_node("MatMul", [names[layer], f"w{layer}"], [names[layer + 1]]) for layer in range(_LAYERS)]
    return save(path, nodes, [tensor("x", ["batch", WIDTH])], [tensor("y", ["batch", WIDTH])], *weights)
