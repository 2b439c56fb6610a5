"""Writes small ONNX models, and imports them as the command does."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console

from infermesh_client.model_import.importer import import_model
from infermesh_client.model_import.options import ImportOptions
from infermesh_client.model_import.progress import ProgressView
from infermesh_runtime.manifest.model_manifest import Manifest

WEIGHTS = np.random.default_rng(7).standard_normal((4, 3)).astype(np.float32)
Shape = Sequence[int | str]


def tensor(name: str, shape: Shape, dtype: int = TensorProto.FLOAT) -> Any:
    """An input or output; a dimension that is a word is open."""
    return helper.make_tensor_value_info(name, dtype, list(shape))


def save(
    path: Path, nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any], *weights: Any, **how: Any
) -> Path:
    """Writes a model; `how` are options of onnx.save."""
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(weights))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)]), path, **how)
    return path


def linear(path: Path, first: int | str = "batch", **how: Any) -> Path:
    """y [first, 3] = x [first, 4] @ WEIGHTS."""
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return save(
        path, [node], [tensor("x", [first, 4])], [tensor("y", [first, 3])], numpy_helper.from_array(WEIGHTS, "w"), **how
    )


def running_sum(path: Path) -> Path:
    """y = the running sum of x over its open first dimension, which is therefore no batch."""
    axis = numpy_helper.from_array(np.array(0, np.int64), "axis")
    node = helper.make_node("CumSum", ["x", "axis"], ["y"])
    return save(path, [node], [tensor("x", ["time", 2])], [tensor("y", ["time", 2])], axis)


def two_by_two(path: Path) -> Path:
    """sum = a + b and product = a * b of INT64 [rows, columns]; a and b must be of one shape."""
    sides: Shape = ["rows", "columns"]
    nodes = [helper.make_node("Add", ["a", "b"], ["sum"]), helper.make_node("Mul", ["a", "b"], ["product"])]
    names = [[tensor(name, sides, TensorProto.INT64) for name in pair] for pair in (("a", "b"), ("sum", "product"))]
    return save(path, nodes, *names)


def same(path: Path, dtype: int) -> Path:
    """y = x, of any type."""
    node = helper.make_node("Identity", ["x"], ["y"])
    return save(path, [node], [tensor("x", ["n"], dtype)], [tensor("y", ["n"], dtype)])


def unknown(path: Path) -> Path:
    """Uses an operation that no runtime knows."""
    node = helper.make_node("Frobnicate", ["x"], ["y"], domain="com.acme")
    return save(path, [node], [tensor("x", ["n"])], [tensor("y", ["n"])])


def import_tensors(source: Path | str, root: Path, name: str, **options: Any) -> Manifest:
    """Imports a model into a models root, from a file or any other source."""
    view = ProgressView(Console(file=io.StringIO()))
    return import_model(str(source), name, root, view, ImportOptions(home=root.parent, **options))
