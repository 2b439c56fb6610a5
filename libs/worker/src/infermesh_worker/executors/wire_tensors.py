"""The form in which arrays cross between the front and an engine process: inline, or as a span of shared memory."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from infermesh.tensor.v1.tensor_pb2 import DataType
from infermesh_runtime.errors import ResourceExhausted
from infermesh_runtime.tensors import Array, data_type, numpy_dtype, pack_bytes, unpack_bytes
from infermesh_worker.executors.arena import INLINE_BYTES, Arena

INLINE = -1
"""In place of a span's begin: the bytes are in the frame."""

WireTensor = tuple[str, int, list[int], bytes, int, int]
"""(name, DataType, shape, inline bytes, begin of its span or INLINE, size in bytes)."""

Flat = tuple[str, int, tuple[int, ...], Array]
"""(name, DataType, shape, its elements as bytes: a contiguous array of uint8)."""


def flatten(name: str, array: Array, dtype: int | None = None) -> Flat:
    """An array as bytes; copies only what is not contiguous, not little-endian, or strings.

    `dtype`: its DataType if the array holds the bits of a type that numpy does not have.
    """
    found = data_type(array.dtype) if dtype is None else dtype
    if found is None:
        raise TypeError(f"output {name!r}: an array of {array.dtype} is no tensor")
    if found == DataType.DATA_TYPE_BYTES:
        packed = pack_bytes(array.ravel().tolist(), name)
        return name, int(found), array.shape, np.frombuffer(packed, np.uint8)
    dense = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return name, int(found), array.shape, dense.reshape(-1).view(np.uint8)


def shared_bytes(tensors: Sequence[Flat]) -> list[int]:
    """The sizes of the tensors that go through shared memory."""
    return [flat.size for _, _, _, flat in tensors if flat.size >= INLINE_BYTES]


def check_fits(arena: Arena, sizes: Sequence[int], what: str) -> None:
    """Raises ResourceExhausted if the tensors could never be in the arena together."""
    if sum(sizes) + 64 * len(sizes) > arena.space.size_bytes:
        raise ResourceExhausted(
            f"The {what} take {sum(sizes)} bytes; the worker passes on at most {arena.space.size_bytes} "
            "(INFERMESH_TENSOR_MEMORY_BYTES).",
            reason="TENSORS_TOO_LARGE",
        )


def allocate(arena: Arena, sizes: Sequence[int]) -> list[int] | None:
    """A span of the arena for each size; None: there is not enough room now, and nothing was allocated."""
    spans: list[int] = []
    for size in sizes:
        begin = arena.space.allocate(size)
        if begin is None:
            for taken in spans:
                arena.free(taken)
            return None
        spans.append(begin)
    return spans


def write(arena: Arena, tensors: Sequence[Flat], spans: Sequence[int]) -> list[WireTensor]:
    """Copies large tensors into their spans, and small ones into the frame."""
    left = iter(spans)
    wired: list[WireTensor] = []
    for name, dtype, shape, flat in tensors:
        if flat.size < INLINE_BYTES:
            wired.append((name, dtype, list(shape), flat.tobytes(), INLINE, flat.size))
        else:
            begin = next(left)
            arena.write(begin, flat)
            wired.append((name, dtype, list(shape), b"", begin, flat.size))
    return wired


def spans_of(tensors: Sequence[WireTensor]) -> list[int]:
    """The spans that must be freed when the tensors are no longer needed."""
    return [tensor[4] for tensor in tensors if tensor[4] != INLINE]


def raw_view(arena: Arena, tensor: WireTensor) -> Array:
    """The bytes of a tensor, without a copy."""
    _, _, _, data, begin, size = tensor
    return np.frombuffer(data, np.uint8) if begin == INLINE else arena.view(begin, size)


def read(arena: Arena, tensors: Sequence[WireTensor]) -> Mapping[str, Array]:
    """The arrays by name: views without a copy, except strings. They are valid until their spans are freed."""
    return {tensor[0]: _array(raw_view(arena, tensor), tensor) for tensor in tensors}


def _array(raw: Array, tensor: WireTensor) -> Array:
    _, code, shape, *_ = tensor
    dtype: Any = DataType.ValueType(code)
    if dtype == DataType.DATA_TYPE_BYTES:
        return unpack_bytes(raw.tobytes(), tuple(shape))
    return raw.view(numpy_dtype(dtype)).reshape(shape)
