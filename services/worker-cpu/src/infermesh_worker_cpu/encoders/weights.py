"""Reads the weights of a Hugging Face folder as float32, one tensor at a time, without torch."""

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.tensors import Array

_TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2"}
_LENGTH_BYTES = 8


class FolderWeights:
    """The tensors of all safetensors files of a folder, by name."""

    def __init__(self, folder: Path, prefixes: tuple[str, ...] = ()) -> None:
        """A name is looked up without a prefix and then with each of `prefixes`.

        Raises FailedPrecondition for a file that cannot be read.
        """
        self._prefixes = ("", *prefixes)
        self._places: dict[str, tuple[Array, int, Mapping[str, Any]]] = {}
        for path in sorted(folder.glob("*.safetensors")):
            try:
                self._add(path)
            except (OSError, ValueError, KeyError, struct.error) as error:
                raise FailedPrecondition(f"{path} is no safetensors file, or is damaged: {error}") from error

    def has(self, name: str) -> bool:
        """Whether there is such a tensor."""
        return any(prefix + name in self._places for prefix in self._prefixes)

    def get(self, *names: str) -> Array:
        """The first of the tensors that is there, as float32. Raises FailedPrecondition if none is."""
        for name in names:
            for prefix in self._prefixes:
                if (place := self._places.get(prefix + name)) is not None:
                    return _read(prefix + name, *place)
        raise FailedPrecondition(f"the weights have no tensor {names[0]}", reason="MODEL_NOT_SUPPORTED")

    def _add(self, path: Path) -> None:
        content = np.memmap(path, np.uint8, mode="r")
        (length,) = struct.unpack("<Q", content[:_LENGTH_BYTES].tobytes())
        header = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + length].tobytes())
        for name, entry in header.items():
            if name != "__metadata__":
                self._places[name] = (content, _LENGTH_BYTES + length, entry)


def _read(name: str, content: Array, data: int, entry: Mapping[str, Any]) -> Array:
    if entry["dtype"] not in _TYPES:
        raise FailedPrecondition(
            f"the tensor {name} has the type {entry['dtype']}; worker-cpu reads {', '.join(_TYPES)}",
            reason="MODEL_NOT_SUPPORTED",
        )
    begin, end = (data + offset for offset in entry["data_offsets"])
    try:
        raw = content[begin:end].view(_TYPES[entry["dtype"]]).reshape(entry["shape"])
    except ValueError as error:
        raise FailedPrecondition(f"the tensor {name} is damaged: {error}") from error
    if entry["dtype"] == "BF16":  # the upper half of a float32
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float32)
