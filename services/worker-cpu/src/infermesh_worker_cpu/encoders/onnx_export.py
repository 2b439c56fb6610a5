"""Opens the ONNX export of an encoder, and finds which of its outputs to read."""

import json
from pathlib import Path

import openvino as ov

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker_cpu.infer.compiling import read

from .encoder import POSITIONS
from .graph import IDS, MASK, TYPES

GRAPHS = ("onnx/model.onnx", "model.onnx")
"""Where exports keep the graph, relative to their folder."""
_VECTORS, _SCORES = ("last_hidden_state", "token_embeddings"), ("logits",)
_VECTOR_RANK, _SCORE_RANK = 3, 2


def graph_of(folder: Path) -> Path | None:
    """The file of an export's graph; None: there is none."""
    return next((folder / name for name in GRAPHS if (folder / name).is_file()), None)


def open_export(core: ov.Core, folder: Path, *, scores: bool) -> tuple[ov.Model, int, int]:
    """The model, the index of the output to read, and the size of the vocabulary.

    Raises FailedPrecondition for a graph that is no encoder of this kind.
    """
    graph = graph_of(folder)
    if graph is None:
        raise FailedPrecondition(f"{folder} has neither *.safetensors nor {' nor '.join(GRAPHS)}")
    model = read(core, graph)
    inputs = {name for port in model.inputs for name in port.get_names()}
    known = {IDS, MASK, TYPES, POSITIONS}
    if IDS not in inputs or any(not port.get_names() & known for port in model.inputs):
        raise FailedPrecondition(
            f"{graph.name} takes {', '.join(sorted(inputs))}; an encoder takes {', '.join(sorted(known))}",
            reason="MODEL_NOT_SUPPORTED",
        )
    return model, _output(model, graph, scores=scores), _config(folder).get("vocab_size") or 0


def pad_id_of(folder: Path) -> int:
    """The id of the padding token."""
    return int(_config(folder).get("pad_token_id") or 0)


def _output(model: ov.Model, graph: Path, *, scores: bool) -> int:
    wanted, rank = (_SCORES, _SCORE_RANK) if scores else (_VECTORS, _VECTOR_RANK)
    for index, port in enumerate(model.outputs):
        if port.get_names() & set(wanted) and port.get_partial_shape().rank.get_length() == rank:
            return index
    raise FailedPrecondition(
        f"{graph.name} has no output {' or '.join(wanted)} of {rank} dimensions", reason="MODEL_NOT_SUPPORTED"
    )


def _config(folder: Path) -> dict[str, int]:
    path = folder / "config.json"
    found: dict[str, int] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return found
