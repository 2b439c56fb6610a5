"""Finds the files of the models of tensors that OpenVINO reads."""

from collections.abc import Mapping
from pathlib import Path

from infermesh_runtime.manifest.model_manifest import ModelFormat
from infermesh_worker.tensor_models.files import Beside, onnx_weights

SUFFIXES: Mapping[str, ModelFormat] = {
    ".onnx": "onnx",
    ".xml": "openvino",
    ".tflite": "tflite",
    ".pb": "tensorflow",
    ".pdmodel": "paddle",
}
_WEIGHTS = {".xml": ".bin", ".pdmodel": ".pdiparams"}


def _weights_beside(graph: Path) -> list[str]:
    return [graph.with_suffix(_WEIGHTS[graph.suffix]).name]


BESIDE: Mapping[str, Beside] = {".onnx": onnx_weights} | dict.fromkeys(_WEIGHTS, _weights_beside)
"""How the files beside a graph are found, by its suffix."""
