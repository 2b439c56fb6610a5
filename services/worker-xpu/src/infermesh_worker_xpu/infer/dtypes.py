"""Which torch type each of our data types is, and tensors over arrays and arrays over tensors without a copy."""

import numpy as np
import torch
from torch import Tensor

from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.tensors import Array, named_type

TYPES: dict[str, torch.dtype] = {
    "BOOL": torch.bool,
    "INT8": torch.int8,
    "INT16": torch.int16,
    "INT32": torch.int32,
    "INT64": torch.int64,
    "UINT8": torch.uint8,
    "UINT16": torch.uint16,
    "UINT32": torch.uint32,
    "UINT64": torch.uint64,
    "FP16": torch.float16,
    "BF16": torch.bfloat16,
    "FP32": torch.float32,
    "FP64": torch.float64,
    "FP8_E4M3": torch.float8_e4m3fn,
    "FP8_E5M2": torch.float8_e5m2,
}
_NAMES = {known: name for name, known in TYPES.items()}
_BITS = {"BF16": (np.uint16, torch.uint16), "FP8_E4M3": (np.uint8, torch.uint8), "FP8_E5M2": (np.uint8, torch.uint8)}
"""What holds the bits of types that numpy does not have, in numpy and in torch."""


def type_name(dtype: torch.dtype, tensor: str) -> str:
    """Our name of a torch type. Raises FailedPrecondition, which names the tensor, for one that we cannot serve."""
    if dtype not in _NAMES:
        raise FailedPrecondition(
            f"the tensor {tensor!r} has the type {dtype}, which worker-xpu cannot serve", reason="MODEL_NOT_SUPPORTED"
        )
    return _NAMES[dtype]


def as_tensor(array: Array, dtype: str, device: torch.device) -> Tensor:
    """A tensor of an array's elements. On the CPU it is a view, unless the array is read-only, as small ones are."""
    usable = array if array.flags.writeable and array.flags.c_contiguous else array.copy(order="C")
    if dtype in _BITS:
        tensor = torch.from_numpy(usable.view(_BITS[dtype][0])).view(TYPES[dtype])
    else:
        tensor = torch.from_numpy(usable)
    return tensor.to(device)


def as_array(tensor: Tensor, dtype: str) -> Array:
    """The elements of a tensor; a view of its memory if that is the host's."""
    host = tensor.detach().resolve_conj().resolve_neg().to("cpu")
    if dtype not in _BITS:
        array: Array = host.numpy()
        return array
    bits: Array = host.contiguous().view(_BITS[dtype][1]).numpy()
    return bits.view(named_type(dtype))
