"""Owns which of torch's errors mean that memory is short."""

import torch

_MESSAGES = (
    "DefaultCPUAllocator",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Triton Error [CUDA]: out of memory",
    "OUT_OF_DEVICE_MEMORY",
    "OUT_OF_HOST_MEMORY",
)
"""Of bare RuntimeErrors: the CPU's allocator; what allocates past torch's (graphs, libraries, kernels); and what SYCL
and Level Zero say (UR_RESULT_ERROR_…) where an Intel GPU has no more."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the host had no memory left."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES)
