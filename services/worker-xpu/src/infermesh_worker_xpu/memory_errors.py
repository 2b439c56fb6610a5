"""Owns which of torch's errors mean that memory is short."""

import torch


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the host had no memory left. The CPU's allocator raises a bare RuntimeError."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or (
        isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
    )
