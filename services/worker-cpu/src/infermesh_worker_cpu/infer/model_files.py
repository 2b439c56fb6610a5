"""Finds the files that a model of tensors consists of: the one with its graph, and those with its weights."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.model_manifest import Manifest, ModelFormat
from infermesh_runtime.wire_fields import DELIMITED, fields

FOLDER = "model"
"""Folder of a model folder that holds the files."""
SUFFIXES: Mapping[str, ModelFormat] = {
    ".onnx": "onnx",
    ".xml": "openvino",
    ".tflite": "tflite",
    ".pdmodel": "paddle",
}
_WEIGHTS = {".xml": ".bin", ".pdmodel": ".pdiparams"}
_GRAPH, _INITIALIZER, _EXTERNAL, _KEY, _VALUE = 7, 5, 13, 1, 2
"""Numbers of fields: ModelProto.graph, GraphProto.initializer, TensorProto.external_data, and those of its entries."""


def graph_file(folder: Path, manifest: Manifest) -> Path:
    """The file of a model folder that has the graph."""
    suffix = next(suffix for suffix, known in SUFFIXES.items() if known == manifest.format)
    return folder / next(name for name in manifest.files if name.startswith(f"{FOLDER}/") and name.endswith(suffix))


def files_of(graph: Path) -> list[str]:
    """The names of a model's files, relative to that of its graph, which is the first. Raises InvalidArgument.

    For one that is missing, or lies outside of the graph's folder.
    """
    names = [graph.name, *_beside(graph)]
    for name in names[1:]:
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts:
            raise InvalidArgument(f"{graph.name} names weights outside of its folder: {name}")
        if not (graph.parent / name).is_file():
            raise InvalidArgument(f"{graph.name} needs the file {name}, which is not in {graph.parent}")
    return names


def _beside(graph: Path) -> Sequence[str]:
    if graph.suffix == ".onnx":
        try:
            return sorted(_external_data(graph.read_bytes()))
        except (ValueError, IndexError, UnicodeDecodeError):
            raise InvalidArgument(f"{graph.name} is no ONNX file, or is damaged") from None
    return [graph.with_suffix(_WEIGHTS[graph.suffix]).name] if graph.suffix in _WEIGHTS else []


def _external_data(body: bytes) -> set[str]:
    """The files that an ONNX file's weights are in. Raises ValueError and IndexError for other files."""
    names: set[str] = set()
    for graph in _members(memoryview(body), _GRAPH):
        for tensor in _members(graph, _INITIALIZER):
            for entry in _members(tensor, _EXTERNAL):
                key, value = (b"".join(map(bytes, _members(entry, number))).decode() for number in (_KEY, _VALUE))
                if key == "location":
                    names.add(value)
    return names


def _members(message: memoryview, wanted: int) -> list[memoryview]:
    return [content for number, kind, _, content in fields(message) if number == wanted and kind == DELIMITED]
