"""Reads the header of a safetensors file within bounds, and checks it against the file's size."""

import math
import struct
from collections.abc import Mapping
from pathlib import Path

import msgspec

from infermesh_client.weight_files.gguf_header import HeaderError

_LENGTH_BYTES, MAX_HEADER_BYTES, _METADATA = 8, 50 << 20, "__metadata__"
_BITS: Mapping[str, int] = {
    **dict.fromkeys(("F64", "I64", "U64", "C64"), 64),
    **dict.fromkeys(("F32", "I32", "U32"), 32),
    **dict.fromkeys(("F16", "BF16", "I16", "U16"), 16),
    **dict.fromkeys(("I8", "U8", "BOOL", "F8_E4M3", "F8_E5M2", "F8_E8M0"), 8),
    **dict.fromkeys(("F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    "F4": 4,
}
"""Bits of each type, by its name in the format."""


class SafeTensor(msgspec.Struct, frozen=True):
    """One tensor as the header lists it."""

    dtype: str
    shape: tuple[int, ...]
    data_offsets: tuple[int, int]
    """First byte, and the byte after the last, counted from the beginning of the data."""


def read_tensors(path: Path) -> Mapping[str, SafeTensor]:
    """Reads and checks the header. Raises HeaderError (without the path) if it cannot be right; OSError."""
    size = path.stat().st_size
    with path.open("rb") as file:
        first = file.read(_LENGTH_BYTES)
        if len(first) < _LENGTH_BYTES:
            raise HeaderError(f"it is not a safetensors file: it has only {size} bytes")
        (length,) = struct.unpack("<Q", first)
        if length > MAX_HEADER_BYTES:
            raise HeaderError(f"it is not a safetensors file, or damaged: its header claims {length} bytes")
        if length > size - _LENGTH_BYTES:
            raise HeaderError(f"it is cut short: its header claims {length} bytes, and the file has {size}")
        header = file.read(length)
    tensors = _parse(header)
    _check_places(tensors, size - _LENGTH_BYTES - length)
    return tensors


def _parse(header: bytes) -> Mapping[str, SafeTensor]:
    try:
        entries = msgspec.json.decode(header, type=dict[str, msgspec.Raw])
        tensors = {
            name: msgspec.json.decode(raw, type=SafeTensor) for name, raw in entries.items() if name != _METADATA
        }
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise HeaderError(f"its header is damaged: {error}") from error
    if not tensors:
        raise HeaderError("it holds no tensors")
    return tensors


def _check_places(tensors: Mapping[str, SafeTensor], data_bytes: int) -> None:
    """Raises HeaderError unless the tensors fill the data without gaps and each has the size of its shape."""
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].data_offsets):
        if tensor.dtype not in _BITS:
            raise HeaderError(f"the tensor {name!r} has the unknown type {tensor.dtype!r}")
        if any(size < 0 for size in tensor.shape):
            raise HeaderError(f"the tensor {name!r} has the shape {list(tensor.shape)}, which cannot be")
        first, last = tensor.data_offsets
        needed_bytes = math.prod(tensor.shape) * _BITS[tensor.dtype] / 8
        if first != end or last - first != needed_bytes:
            raise HeaderError(
                f"the tensor {name!r} is at bytes {first} to {last} of the data; its type and shape need "
                f"{needed_bytes:g} bytes from byte {end} on"
            )
        end = last
    if end != data_bytes:
        problem = "is cut short" if end > data_bytes else "has bytes that no tensor uses"
        raise HeaderError(f"it {problem}: its header lists {end} bytes of data, and the file has {data_bytes}")
