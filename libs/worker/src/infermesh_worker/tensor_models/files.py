"""Finds the files that a model of tensors consists of: the one with its graph, and those with its weights."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path, PurePosixPath

from infermesh_runtime import machine
from infermesh_runtime.errors import InvalidArgument, ResourceExhausted
from infermesh_runtime.manifest.model_manifest import Manifest, ModelFormat
from infermesh_runtime.wire_fields import DELIMITED, fields

FOLDER = "model"
"""Folder of a model folder that holds the files."""
OTHER_FORMAT = "OTHER_FORMAT"
"""Reason of the error for a file that another kind of worker may serve: its suffix is not one of ours."""
Beside = Callable[[Path], Sequence[str]]
"""The names of the files that a graph's file needs, relative to its folder."""
_GRAPH, _INITIALIZER, _EXTERNAL, _KEY, _VALUE = 7, 5, 13, 1, 2
"""Numbers of fields: ModelProto.graph, GraphProto.initializer, TensorProto.external_data, and those of its entries."""
_MEMORY_FACTOR = 1.25


def graph_file(folder: Path, manifest: Manifest, suffixes: Mapping[str, ModelFormat]) -> Path:
    """The file of a model folder that has the graph, for a worker that serves these suffixes."""
    ours = tuple(suffix for suffix, known in suffixes.items() if known == manifest.format)
    return folder / next(name for name in manifest.files if name.startswith(f"{FOLDER}/") and name.endswith(ours))


def files_of(graph: Path, beside: Mapping[str, Beside]) -> list[str]:
    """The names of a model's files, relative to that of its graph, which is the first.

    `beside`: by suffix of the graph, how the others are found. Raises InvalidArgument for one that is missing, or lies
    outside of the graph's folder.
    """
    names = [graph.name, *(beside[graph.suffix](graph) if graph.suffix in beside else ())]
    for name in names[1:]:
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts:
            raise InvalidArgument(f"{graph.name} names weights outside of its folder: {name}")
        if not (graph.parent / name).is_file():
            raise InvalidArgument(f"{graph.name} needs the file {name}, which is not in {graph.parent}")
    return names


def check_suffix(graph: Path, suffixes: Mapping[str, ModelFormat]) -> None:
    """Raises InvalidArgument, with the reason OTHER_FORMAT, if the worker does not serve such files."""
    if graph.suffix not in suffixes:
        raise InvalidArgument(
            f"{graph.name} is no model: expected a file that ends in {', '.join(suffixes)}", reason=OTHER_FORMAT
        )


def check_size(graph: Path, files: Sequence[str]) -> None:
    """Raises ResourceExhausted for a model that this machine could not hold, before it is read."""
    needed = int(_MEMORY_FACTOR * sum((graph.parent / name).stat().st_size for name in files))
    if needed > (memory := machine.memory_total_bytes()):
        raise ResourceExhausted(
            f"{graph.name} and its weights need about {needed / 1e9:.1f} GB of memory; this machine has "
            f"{memory / 1e9:.1f} GB",
            reason="OUT_OF_MEMORY",
        )


def onnx_weights(graph: Path) -> Sequence[str]:
    """The files that an ONNX file's weights are in. Raises InvalidArgument for a damaged file."""
    try:
        return sorted(_external_data(graph.read_bytes()))
    except (ValueError, IndexError, UnicodeDecodeError):
        raise InvalidArgument(f"{graph.name} is no ONNX file, or is damaged") from None


def _external_data(body: bytes) -> set[str]:
    """Raises ValueError and IndexError for files that are not ONNX."""
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
