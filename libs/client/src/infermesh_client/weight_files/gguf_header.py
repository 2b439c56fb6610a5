"""Reads the header of a GGUF file within bounds of memory and time: keys, and where each tensor lies.

It reads what a hostile file says of itself without trusting any count or length in it.
"""

import mmap
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MAGIC = b"GGUF"
VERSIONS = (2, 3)
ALIGNMENT_KEY = "general.alignment"
_DEFAULT_ALIGNMENT = 32
_MAX_KEYS, _MAX_TENSORS, _MAX_DIMENSIONS = 1 << 16, 1 << 20, 4
_MAX_NAME_BYTES, _MAX_STRING_BYTES, _MAX_ITEMS = 1 << 16, 1 << 24, 1 << 24
_SCALARS: Mapping[int, str] = dict(enumerate("BbHhIif?")) | {10: "Q", 11: "q", 12: "d"}
"""Number of each type of value, and its code in `struct`."""
_STRING, _ARRAY = 8, 9


class HeaderError(ValueError):
    """A header that cannot be right; the message has no path."""


@dataclass(frozen=True, slots=True)
class ArrayFacts:
    """An array in the header, whose items are not kept."""

    type: int
    """GGUF's number of the items' type."""
    count: int


@dataclass(frozen=True, slots=True)
class TensorFacts:
    """One tensor as the header lists it."""

    name: str
    shape: tuple[int, ...]
    """Sizes as the file gives them: the fastest-running dimension comes first."""
    type: int
    """GGML's number of the type of its values."""
    offset: int
    """First byte, counted from the beginning of the data."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHeader:
    """What a GGUF file says before its data begins."""

    keys: Mapping[str, Any]
    """Strings and numbers as they are, arrays as ArrayFacts."""
    spans: Mapping[str, tuple[int, int]]
    """First byte of each key and its value in the file, and the byte after its last."""
    tensors: tuple[TensorFacts, ...]
    alignment: int
    """Tensors begin at multiples of it, in bytes."""
    data_begin: int
    """First byte of the tensors' data in the file."""
    file_bytes: int


def read_header(path: Path) -> GgufHeader:
    """Reads the header. Raises HeaderError if it is not one of GGUF 2 or 3, or is cut short; OSError."""
    with path.open("rb") as file:
        size = path.stat().st_size
        if file.read(len(MAGIC)) != MAGIC:
            raise HeaderError("it is not a GGUF file: it does not begin with the letters GGUF")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return _Reader(data, size).header()


class _Reader:
    """Walks through the bytes of a header."""

    def __init__(self, data: mmap.mmap, size: int) -> None:
        self._data, self._size, self._at = data, size, len(MAGIC)

    def header(self) -> GgufHeader:
        self._check_version()
        tensor_count, key_count = self._number("Q"), self._number("Q")
        if key_count > _MAX_KEYS or tensor_count > _MAX_TENSORS:
            raise HeaderError(f"it claims {key_count} keys and {tensor_count} tensors, which no model has")
        keys: dict[str, Any] = {}
        spans: dict[str, tuple[int, int]] = {}
        for _ in range(key_count):
            begin, name = self._at, self._string(_MAX_NAME_BYTES)
            if name in keys or not name:
                raise HeaderError(f"the key {name!r} appears twice" if name else "a key has no name")
            keys[name] = self._value()
            spans[name] = (begin, self._at)
        tensors = tuple(self._tensor() for _ in range(tensor_count))
        alignment = keys.get(ALIGNMENT_KEY, _DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or not 0 < alignment <= 1 << 20 or alignment & (alignment - 1):
            raise HeaderError(f"{ALIGNMENT_KEY} is {alignment!r}; expected a power of two")
        begin = -(-self._at // alignment) * alignment
        return GgufHeader(
            keys=keys, spans=spans, tensors=tensors, alignment=alignment, data_begin=begin, file_bytes=self._size
        )

    def _check_version(self) -> None:
        version = self._number("I")
        if version in VERSIONS:
            return
        if int.from_bytes(version.to_bytes(4, "little"), "big") in VERSIONS:
            raise HeaderError("it is a big-endian GGUF file; convert it with `gguf-convert-endian FILE little`")
        raise HeaderError(f"it is GGUF version {version}; versions 2 and 3 can be read")

    def _tensor(self) -> TensorFacts:
        name, dimensions = self._string(_MAX_NAME_BYTES), self._number("I")
        if not 1 <= dimensions <= _MAX_DIMENSIONS:
            raise HeaderError(f"the tensor {name!r} has {dimensions} dimensions; expected 1 to {_MAX_DIMENSIONS}")
        shape = tuple(self._number("Q") for _ in range(dimensions))
        return TensorFacts(name, shape, self._number("I"), self._number("Q"))

    def _value(self) -> Any:
        kind = self._number("I")
        return self._array() if kind == _ARRAY else self._reader_of(kind)()

    def _reader_of(self, kind: int) -> Callable[[], Any]:
        if kind == _STRING:
            return lambda: self._string(_MAX_STRING_BYTES)
        if kind not in _SCALARS:
            raise HeaderError(f"a value has the unknown type {kind}")
        return lambda: self._number(_SCALARS[kind])

    def _array(self) -> ArrayFacts:
        kind, count = self._number("I"), self._number("Q")
        if count > _MAX_ITEMS:
            raise HeaderError(f"an array claims {count} items, which no model has")
        if kind == _STRING:
            for _ in range(count):
                self._skip(self._number("Q"))
        elif kind in _SCALARS:
            self._skip(count * struct.calcsize(_SCALARS[kind]))
        else:
            raise HeaderError(f"an array has items of the unknown type {kind}")
        return ArrayFacts(kind, count)

    def _string(self, limit: int) -> str:
        length = self._number("Q")
        if length > limit:
            raise HeaderError(f"a string claims {length} bytes; the longest that is read has {limit}")
        begin = self._at
        self._skip(length)
        try:
            return self._data[begin : self._at].decode()
        except UnicodeDecodeError as error:
            raise HeaderError(f"a string at byte {begin} is not UTF-8") from error

    def _number(self, code: str) -> Any:
        begin = self._at
        self._skip(struct.calcsize(code))
        return struct.unpack_from(f"<{code}", self._data, begin)[0]

    def _skip(self, count: int) -> None:
        if count > self._size - self._at:
            raise HeaderError(f"its header is cut short: the file has {self._size} bytes")
        self._at += count
