"""Runs `infermesh infer`: reads arrays from files, runs a model on them, and prints or saves what it gives."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from infermesh.inference.v1 import inference_pb2
from infermesh.tensor.v1.tensor_pb2 import TensorMetadata
from infermesh_client.cli.boundary import error_console, load_settings
from infermesh_client.cli.connection import connect
from infermesh_client.cli.output.waiting import waiting_line
from infermesh_client.cli.tensors.arrays import read_array, save_array
from infermesh_client.cli.tensors.images import Normalization, is_image, read_image
from infermesh_client.told import printable
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.tensors import Array

_PRINTED_ELEMENTS = 1000
"""Larger outputs are printed without their elements."""


def run_infer(
    model: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    normalization: Normalization,
    device: str,
    endpoint: str | None,
) -> None:
    """Prints the outputs as JSON, those without a file in `outputs`. Raises InfermeshError.

    `inputs` and `outputs` are NAME=FILE: .npy files, and for inputs also images, .json files and "-", JSON on stdin.
    """
    files = _pairs(outputs, "--output")
    for name, file in files.items():
        if not file.endswith(".npy"):
            raise InvalidArgument(f"--output {name}={file}: outputs are saved as .npy files")
    settings, _ = load_settings()
    with connect(endpoint, settings, timeout_s=None) as client:
        known = _inputs_of(client.health(), model)
        arrays = {
            name: _read(name, file, known.get(name), normalization) for name, file in _pairs(inputs, "--input").items()
        }
        with waiting_line(error_console(), f"Waiting for {model}"):
            found = client.infer(model, arrays, device=device)
    if missing := [name for name in files if name not in found]:
        raise InvalidArgument(f"the model gives no output {missing[0]!r}; it gives {', '.join(found)}")
    for name, file in files.items():
        save_array(name, file, found[name])
    shown = {name: _shown(array) for name, array in found.items() if name not in files}
    if shown or not files:
        print(printable(json.dumps(shown, ensure_ascii=False)))


def _read(name: str, file: str, taken: TensorMetadata | None, normalization: Normalization) -> Array:
    if is_image(file):
        return read_image(name, file, taken, normalization)
    return read_array(name, file, taken.dtype if taken is not None else None)


def numbers(text: str, option: str) -> tuple[float, ...]:
    """The numbers of "0.485,0.456,0.406". Raises InvalidArgument."""
    try:
        found = tuple(float(part) for part in text.split(","))
    except ValueError:
        found = ()
    if not found or not np.isfinite(found).all() or (option == "--image-std" and 0 in found):
        raise InvalidArgument(f"{option} {text}: expected numbers such as 0.5 or 0.485,0.456,0.406")
    return found


def _pairs(texts: Sequence[str], option: str) -> Mapping[str, str]:
    pairs = {}
    for text in texts:
        name, separator, file = text.partition("=")
        if not separator or not name or not file:
            raise InvalidArgument(f"{option} {text}: expected NAME=FILE")
        pairs[name] = file
    return pairs


def _inputs_of(report: inference_pb2.HealthReport, model: str) -> Mapping[str, TensorMetadata]:
    """What the model takes, as far as it is known before it is loaded."""
    known = {each.name: each.inputs for each in report.available} | {each.name: each.inputs for each in report.models}
    return {tensor.name: tensor for tensor in known.get(model, ())}


def _shown(array: Array) -> Mapping[str, Any]:
    """An output as JSON; its elements only if there are not too many."""
    shown: dict[str, Any] = {"dtype": str(array.dtype), "shape": list(array.shape)}
    if array.size <= _PRINTED_ELEMENTS:
        plain = array.astype(np.float64) if array.dtype.kind == "V" else array
        shown["data"] = _plain(plain.tolist())
    return shown


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return value.decode(errors="replace") if isinstance(value, bytes) else value
