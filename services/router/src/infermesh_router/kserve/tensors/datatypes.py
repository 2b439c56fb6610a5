"""The names and sizes of the protocol's tensor types, and whether a tensor has the bytes that its shape needs."""

from collections.abc import Mapping, Sequence
from math import prod
from typing import cast

from infermesh.tensor.v1.tensor_pb2 import DataType
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.tensors import dense_types

BYTES = DataType.DATA_TYPE_BYTES
_PREFIX = "DATA_TYPE_"
TYPES: Mapping[str, DataType] = {
    key.removeprefix(_PREFIX): cast("DataType", value) for key, value in DataType.items() if value
}
"""The protocol's name of a type, which is ours without its prefix → our number of it."""
NAMES: Mapping[int, str] = {value: name for name, value in TYPES.items()}
ITEM_BYTES: Mapping[int, int] = {int(number): kind.itemsize for number, kind in dense_types().items()}
LENGTH_BYTES = 4
"""In front of each element of BYTES."""
_MAX_BYTES = 1 << 62
_MAX_DIMENSIONS = 64


def read_datatype(name: str, tensor: str) -> DataType:
    """The type of this name. Raises InvalidArgument, which names the tensor."""
    if (found := TYPES.get(name)) is None:
        raise bad_tensor(tensor, f"has the datatype '{name}', which there is not; there are {', '.join(TYPES)}")
    return found


def count_elements(tensor: str, shape: Sequence[int]) -> int:
    """The number of elements of a shape. Raises InvalidArgument, which names the tensor."""
    if len(shape) > _MAX_DIMENSIONS:
        raise bad_tensor(tensor, f"has {len(shape)} dimensions; at most {_MAX_DIMENSIONS} are allowed")
    if any(extent < 0 for extent in shape):
        raise bad_tensor(tensor, f"has the shape {show(shape)}, and no dimension may be negative")
    count = prod(shape)
    if count > _MAX_BYTES or any(extent > _MAX_BYTES for extent in shape):
        raise bad_tensor(tensor, f"has the shape {show(shape)}, which is too large for an array")
    return count


def check_size(tensor: str, dtype: DataType, shape: Sequence[int], size_bytes: int) -> None:
    """Raises InvalidArgument, which names the tensor, unless it has as many bytes as its type and shape need."""
    count = count_elements(tensor, shape)
    if dtype == BYTES:
        if count * LENGTH_BYTES > size_bytes:
            needed = f"at least {count * LENGTH_BYTES} bytes, {LENGTH_BYTES} for the length of each element"
            raise bad_tensor(tensor, f"is BYTES of shape {show(shape)} and needs {needed}; it has {size_bytes}")
        return
    expected = count * ITEM_BYTES[dtype]
    if size_bytes != expected:
        what = f"is {NAMES[dtype]} of shape {show(shape)} and needs {expected} bytes"
        raise bad_tensor(tensor, f"{what}; it has {size_bytes}")


def bad_tensor(tensor: str, problem: str) -> InvalidArgument:
    """The error for a tensor, with a sentence of which it is the subject."""
    return InvalidArgument(f"The tensor '{tensor}' {problem}.", reason="BAD_TENSOR", fields={tensor: problem})


def show(shape: Sequence[int]) -> str:
    """A shape for people to read."""
    listed = ", ".join(str(extent) for extent in shape[:8])
    return f"[{listed}, … {len(shape)} dimensions]" if len(shape) > 8 else f"[{listed}]"
