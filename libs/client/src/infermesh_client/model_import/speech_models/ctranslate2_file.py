"""Reads model.bin of CTranslate2: a list of named tensors, each followed by its elements."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

from infermesh_runtime.errors import InvalidArgument

_VERSIONS = range(4, 7)
_MOST_TENSORS, _MOST_NAME_BYTES, _MOST_DIMENSIONS = 100_000, 1024, 8
_TYPES: Mapping[int, tuple[str, int]] = {
    0: ("F32", 4),
    1: ("I8", 1),
    2: ("I16", 2),
    3: ("I32", 4),
    4: ("F16", 2),
    5: ("BF16", 2),
}
"""Name in safetensors, and bytes of an element."""


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """Where a tensor lies in the file."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class StoredModel:
    """What model.bin holds."""

    spec: str
    """The kind of model, such as "WhisperSpec"."""
    tensors: Mapping[str, StoredTensor]


def read_model(path: Path) -> StoredModel:
    """Reads the names and places of all tensors. Raises InvalidArgument for a file that cannot be right; OSError."""
    with path.open("rb") as file:
        reader = _Reader(file, path)
        version = reader.number(4)
        if version not in _VERSIONS:
            raise reader.refusal(f"it is not of CTranslate2, or of a version ({version}) that is not read")
        spec = reader.text()
        reader.number(4)
        count = reader.number(4)
        if count > _MOST_TENSORS:
            raise reader.refusal(f"it claims {count} tensors")
        return StoredModel(spec, dict(reader.tensor() for _ in range(count)))


class _Reader:
    def __init__(self, file: BinaryIO, path: Path) -> None:
        self._file = file
        self._path = path
        self._size = path.stat().st_size

    def refusal(self, message: str) -> InvalidArgument:
        return InvalidArgument(f"{self._path}: {message}")

    def number(self, size: int) -> int:
        return int.from_bytes(self._bytes(size), "little")

    def text(self) -> str:
        """A name, with the zero byte that ends it."""
        length = self.number(2)
        if not 0 < length <= _MOST_NAME_BYTES:
            raise self.refusal(f"a name in it claims {length} bytes")
        try:
            return self._bytes(length)[:-1].decode("ascii")
        except UnicodeDecodeError as error:
            raise self.refusal("a name in it is damaged") from error

    def tensor(self) -> tuple[str, StoredTensor]:
        """The next tensor and its name; its elements are skipped."""
        name, dimensions = self.text(), self.number(1)
        if dimensions > _MOST_DIMENSIONS:
            raise self.refusal(f"the tensor {name} claims {dimensions} dimensions")
        shape = tuple(self.number(4) for _ in range(dimensions))
        kind, size_bytes, begin = self.number(1), self.number(4), self._file.tell()
        if kind not in _TYPES:
            raise self.refusal(f"the tensor {name} has an unknown type ({kind})")
        dtype, element_bytes = _TYPES[kind]
        if prod(shape) * element_bytes != size_bytes:
            raise self.refusal(f"the tensor {name} of shape {list(shape)} claims {size_bytes} bytes")
        if begin + size_bytes > self._size:
            raise self.refusal("it is cut short")
        self._file.seek(size_bytes, 1)
        return name, StoredTensor(dtype, shape, begin, size_bytes)

    def _bytes(self, size: int) -> bytes:
        found = self._file.read(size)
        if len(found) < size:
            raise self.refusal("it is cut short")
        return found
