"""Finds a tensor with NaN or infinity in a model folder. Reads all weights, so it is for models that have failed."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_EXPONENTS = {"F64": (np.uint64, 0x7FF << 52), "F32": (np.uint32, 0xFF << 23), "BF16": (np.uint16, 0xFF << 7)} | {
    "F16": (np.uint16, 0x1F << 10)
}
"""Unsigned type of the same size, and the bits that are all set in NaN and infinity."""


def find_broken_weight(folder: Path) -> str:
    """The first tensor that is not finite, as "NAME in FILE"; "" if there is none in the files that we read."""
    for path in sorted(folder.glob("*.safetensors")):
        for name in _broken_in_safetensors(path):
            return f"{name} in {path.name}"
    for path in sorted(folder.glob("*.gguf")):
        for name in _broken_in_gguf(path):
            return f"{name} in {path.name}"
    return ""


def _broken_in_safetensors(path: Path) -> Iterator[str]:
    data: NDArray[np.uint8] = np.memmap(path, np.uint8, mode="r")
    begin = 8 + int.from_bytes(data[:8].tobytes(), "little")
    header: dict[str, Any] = json.loads(data[8:begin].tobytes())
    for name, entry in header.items():
        if entry.get("dtype") in _EXPONENTS:
            kind, exponent = _EXPONENTS[entry["dtype"]]
            first, last = entry["data_offsets"]
            values = np.frombuffer(data[begin + first : begin + last].tobytes(), kind)
            if ((values & kind(exponent)) == exponent).any():
                yield name


def _broken_in_gguf(path: Path) -> Iterator[str]:
    import gguf  # noqa: PLC0415 - only for a model that has failed

    for tensor in gguf.GGUFReader(path).tensors:
        with np.errstate(invalid="ignore", over="ignore"):
            values = gguf.dequantize(tensor.data, tensor.tensor_type)
        if not np.isfinite(values).all():
            yield tensor.name
