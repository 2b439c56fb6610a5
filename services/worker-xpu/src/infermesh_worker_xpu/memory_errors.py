"""Recognises the exceptions that mean a device or the host is out of memory."""

import torch

_MESSAGES = (
    "DefaultCPUAllocator",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "Triton Error [CUDA]: out of memory",
    "OUT_OF_DEVICE_MEMORY",
    "OUT_OF_HOST_MEMORY",
)
"""Texts of plain RuntimeErrors that mean the same: from the CPU allocator, from CUDA code that bypasses torch's
allocator (graphs, libraries, Triton), and from SYCL and Level Zero on Intel GPUs (UR_RESULT_ERROR_…)."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the error says that a device or the host ran out of memory."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(message in str(error) for message in _MESSAGES)
