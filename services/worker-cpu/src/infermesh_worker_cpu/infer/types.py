"""Which OpenVINO element type each of our data types is, and tensors over arrays without a copy."""

from typing import Any

import numpy as np
import openvino as ov

from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.tensors import Array

_TYPES: dict[str, Any] = {
    "BOOL": ov.Type.boolean,
    "INT8": ov.Type.i8,
    "INT16": ov.Type.i16,
    "INT32": ov.Type.i32,
    "INT64": ov.Type.i64,
    "UINT8": ov.Type.u8,
    "UINT16": ov.Type.u16,
    "UINT32": ov.Type.u32,
    "UINT64": ov.Type.u64,
    "FP16": ov.Type.f16,
    "BF16": ov.Type.bf16,
    "FP32": ov.Type.f32,
    "FP64": ov.Type.f64,
    "FP8_E4M3": ov.Type.f8e4m3,
    "FP8_E5M2": ov.Type.f8e5m2,
}
_BITS = {1: np.uint8, 2: np.uint16}
"""By size in bytes: what holds the bits of types that numpy does not have."""
_RAW = frozenset({"BF16", "FP8_E4M3", "FP8_E5M2"})


def type_name(element: Any, tensor: str) -> str:
    """Our name of an OpenVINO type. Raises FailedPrecondition, which names the tensor, for one that we cannot serve.

    Strings are among these: OpenVINO's CPU plugin copies std::string as plain bytes, and crashes on long ones.
    """
    found = next((name for name, known in _TYPES.items() if known == element), None)
    if found is None:
        raise FailedPrecondition(
            f"the tensor {tensor!r} has the type {element.get_type_name()}, which worker-cpu cannot serve",
            reason="MODEL_NOT_SUPPORTED",
        )
    return found


def as_tensor(array: Array, dtype: str) -> ov.Tensor:
    """A tensor over the array's memory, or over a copy if it is read-only, as small ones are."""
    writable = array if array.flags.writeable and array.flags.c_contiguous else array.copy(order="C")
    if dtype in _RAW:
        bits = writable.view(_BITS[writable.itemsize])
        return ov.Tensor(bits, ov.Shape(writable.shape), _TYPES[dtype])
    return ov.Tensor(writable, shared_memory=True)


def as_array(tensor: ov.Tensor, dtype: str) -> Array:
    """The elements of a tensor, a view of its memory; those of BF16 and FP8 as the integers that hold their bits."""
    data: Array = tensor.data
    return data.view(_BITS[data.itemsize]) if dtype in _RAW else data
