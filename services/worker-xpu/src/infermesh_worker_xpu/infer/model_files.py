"""Finds the files of the models of tensors that worker-xpu serves. Imports no torch: the front process reads it."""

from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.manifest.model_manifest import ModelFormat
from infermesh_worker.tensor_models.files import Beside, onnx_weights

SUFFIXES: Mapping[str, ModelFormat] = {
    ".pt2": "pt2",
    ".pt": "torchscript",
    ".ts": "torchscript",
    ".onnx": "onnx",
}
SPECS_SUFFIX = ".tensors.json"
"""Ends the name of the file beside a TorchScript program that says which tensors it takes and gives."""


def specs_file(graph: Path) -> Path:
    """Where the tensors of a TorchScript program may be described: model.tensors.json beside model.pt."""
    return graph.with_suffix(SPECS_SUFFIX)


def _specs_beside(graph: Path) -> Sequence[str]:
    return [specs_file(graph).name] if specs_file(graph).is_file() else []


BESIDE: Mapping[str, Beside] = {".onnx": onnx_weights, ".pt": _specs_beside, ".ts": _specs_beside}
"""How the files beside a graph are found, by its suffix."""


def has_onnxruntime() -> bool:
    """Whether the package that runs ONNX files is installed here."""
    return find_spec("onnxruntime") is not None


def check_onnxruntime(graph: Path) -> None:
    """Raises FailedPrecondition if the package that runs an ONNX file is not installed here."""
    if not has_onnxruntime():
        raise FailedPrecondition(
            f"{graph.name} needs the package onnxruntime beside worker-xpu: pip install onnxruntime, or "
            "onnxruntime-openvino or onnxruntime-gpu for GPUs",
            reason="CONVERTER_NOT_INSTALLED",
        )
