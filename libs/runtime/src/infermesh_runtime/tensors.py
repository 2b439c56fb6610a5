"""Converts between Tensor messages and numpy arrays, copying elements as little as possible.

Protobuf copies the `bytes` that it gives and takes; between those bytes and the array there is no further copy.
"""

import struct
from collections.abc import Iterable, Sequence
from functools import cache
from math import prod
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from infermesh.tensor.v1.tensor_pb2 import DataType, Tensor
from infermesh_runtime.errors import InvalidArgument

Array = NDArray[Any]

_NUMPY: dict[DataType, np.dtype[Any]] = {
    DataType.DATA_TYPE_BOOL: np.dtype("?"),
    DataType.DATA_TYPE_INT8: np.dtype("i1"),
    DataType.DATA_TYPE_INT16: np.dtype("<i2"),
    DataType.DATA_TYPE_INT32: np.dtype("<i4"),
    DataType.DATA_TYPE_INT64: np.dtype("<i8"),
    DataType.DATA_TYPE_UINT8: np.dtype("u1"),
    DataType.DATA_TYPE_UINT16: np.dtype("<u2"),
    DataType.DATA_TYPE_UINT32: np.dtype("<u4"),
    DataType.DATA_TYPE_UINT64: np.dtype("<u8"),
    DataType.DATA_TYPE_FP16: np.dtype("<f2"),
    DataType.DATA_TYPE_FP32: np.dtype("<f4"),
    DataType.DATA_TYPE_FP64: np.dtype("<f8"),
}
_RAW: dict[DataType, np.dtype[Any]] = {
    DataType.DATA_TYPE_BF16: np.dtype("<u2"),
    DataType.DATA_TYPE_FP8_E4M3: np.dtype("u1"),
    DataType.DATA_TYPE_FP8_E5M2: np.dtype("u1"),
}
"""Types that numpy does not have, as the unsigned integers that hold their bits."""
_LENGTH = struct.Struct("<I")


def to_numpy(tensor: Tensor, *, field: str) -> Array:
    """A read-only array over the elements of `tensor`, of its shape.

    BF16 and FP8 have ml_dtypes' types if that package is installed, otherwise they are uint16 and uint8 holding the
    bits. BYTES is an object array of `bytes`. Raises InvalidArgument when dtype, shape and byte length disagree; it
    names the tensor, or `field`, the path of the field that holds it.
    """
    try:
        array = _decode(tensor.dtype, tuple(tensor.shape), tensor.data)
    except ValueError as problem:
        raise _invalid(tensor.name, field, str(problem)) from None
    array.flags.writeable = False
    return array


def from_numpy(array: Array, *, name: str = "", dtype: DataType | None = None) -> Tensor:
    """The tensor that holds `array`, which may have any strides and byte order.

    `dtype` defaults to the array's. BF16 and FP8 also accept uint16 and uint8 arrays holding the bits, and BYTES
    accepts arrays of `str` (as UTF-8) or `bytes`. Raises InvalidArgument, which names the tensor, when the array cannot
    hold `dtype`.
    """
    wanted = data_type(array.dtype) if dtype is None else dtype
    if wanted is None or not _holds(array.dtype, wanted):
        what = f"an array of {array.dtype} is not {'any tensor type' if wanted is None else type_name(wanted)}"
        raise _invalid(name, "tensor", what)
    if wanted == DataType.DATA_TYPE_BYTES:
        return Tensor(name=name, dtype=wanted, shape=array.shape, data=pack_bytes(array.ravel().tolist(), name))
    little = array.astype(array.dtype.newbyteorder("<"), copy=False)
    return Tensor(name=name, dtype=wanted, shape=array.shape, data=little.tobytes())


def numpy_dtype(dtype: DataType) -> np.dtype[Any]:
    """The numpy type of a tensor's elements. Raises ValueError for UNSPECIFIED and for unknown numbers."""
    if dtype == DataType.DATA_TYPE_BYTES:
        return np.dtype(object)
    found = dense_types().get(dtype)
    if found is None:
        raise ValueError(f"dtype {type_name(dtype)} is not a tensor type")
    return found


def named_type(name: str) -> np.dtype[Any]:
    """The numpy type of a tensor type by its name, such as "FP32". Raises ValueError for an unknown name."""
    dtype: Any = DataType.Value(f"DATA_TYPE_{name}")
    return numpy_dtype(dtype)


@cache
def dense_types() -> dict[DataType, np.dtype[Any]]:
    """The numpy type of each tensor type with fixed-size elements; for BF16 and FP8 ml_dtypes' if installed."""
    try:
        import ml_dtypes  # noqa: PLC0415 - optional: without it these types are raw bits
    except ImportError:
        return _NUMPY | _RAW
    return _NUMPY | {
        DataType.DATA_TYPE_BF16: np.dtype(ml_dtypes.bfloat16),
        DataType.DATA_TYPE_FP8_E4M3: np.dtype(ml_dtypes.float8_e4m3fn),
        DataType.DATA_TYPE_FP8_E5M2: np.dtype(ml_dtypes.float8_e5m2),
    }


def _decode(dtype: DataType, shape: tuple[int, ...], data: bytes) -> Array:
    """Raises ValueError, which says what disagrees."""
    kind = numpy_dtype(dtype)
    if any(extent < 0 for extent in shape):
        raise ValueError(f"shape {_show(shape)} has a negative dimension")
    count = prod(shape)
    if dtype == DataType.DATA_TYPE_BYTES:
        return unpack_bytes(data, shape)
    if len(data) != count * kind.itemsize:
        need = f"{type_name(dtype)} of shape {_show(shape)} needs {count * kind.itemsize} bytes"
        raise ValueError(f"{need}, got {len(data)}")
    if dtype == DataType.DATA_TYPE_BOOL and data and max(data) > 1:
        raise ValueError("BOOL elements must be 0 or 1")
    return _reshape(np.frombuffer(data, kind), shape)


def _reshape(flat: Array, shape: tuple[int, ...]) -> Array:
    try:
        return flat.reshape(shape)
    except (ValueError, OverflowError):  # only without elements: otherwise the length would not have matched
        raise ValueError(f"shape {_show(shape)} is too large for an array") from None


def unpack_bytes(data: bytes, shape: tuple[int, ...]) -> Array:
    """The elements of a BYTES tensor, as an object array. Raises ValueError, which says what disagrees."""
    return _reshape(_unpack(data, prod(shape), shape), shape)


def _unpack(data: bytes, count: int, shape: tuple[int, ...]) -> Array:
    if count * _LENGTH.size > len(data):
        raise ValueError(f"BYTES of shape {_show(shape)} needs {count} elements, got only {len(data)} bytes")
    elements = np.empty(count, object)
    offset = 0
    for index in range(count):
        start = offset + _LENGTH.size
        offset = start + _LENGTH.unpack_from(data, offset)[0] if start <= len(data) else start
        if offset > len(data):
            raise ValueError(f"BYTES element {index} of {count} ends beyond the {len(data)} bytes of data")
        elements[index] = data[start:offset]
    if offset != len(data):
        raise ValueError(f"BYTES of shape {_show(shape)} ends at byte {offset}, but there are {len(data)}")
    return elements


def pack_bytes(elements: Iterable[object], name: str) -> bytes:
    """The data of a BYTES tensor with these elements. Raises InvalidArgument for others than `str` and `bytes`."""
    parts: list[bytes] = []
    for element in elements:
        if not isinstance(element, str | bytes):
            raise _invalid(name, "tensor", f"BYTES elements must be str or bytes, got {type(element).__name__}")
        encoded = element.encode() if isinstance(element, str) else element
        parts += (_LENGTH.pack(len(encoded)), encoded)
    return b"".join(parts)


def data_type(dtype: np.dtype[Any]) -> DataType | None:
    """The type of tensors that hold arrays of this numpy type; None: there is none."""
    if dtype.kind in "OSU":
        return DataType.DATA_TYPE_BYTES
    little = dtype.newbyteorder("<")
    return next((key for key, known in dense_types().items() if known == little), None)


def _holds(dtype: np.dtype[Any], wanted: DataType) -> bool:
    return data_type(dtype) == wanted or _RAW.get(wanted) == dtype.newbyteorder("<")


def _show(shape: Sequence[int]) -> str:
    listed = ", ".join(str(extent) for extent in shape[:8])
    return f"[{listed}, … {len(shape)} dimensions]" if len(shape) > 8 else f"[{listed}]"


def type_name(dtype: DataType) -> str:
    """Its name, such as "FP32", or its number if it is not a known type."""
    known = cast("int", dtype) in DataType.values()
    return DataType.Name(dtype).removeprefix("DATA_TYPE_") if known else str(dtype)


def _invalid(name: str, field: str, problem: str) -> InvalidArgument:
    return InvalidArgument(f"tensor {name or field!r}: {problem}", fields={field: problem})
