"""Computes how many KV blocks fit in memory, and allocates them."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker_xpu.attention.kernels import BLOCK_SIZE
from infermesh_worker_xpu.attention.layers import LayerSpec
from infermesh_worker_xpu.device import TorchDevice
from infermesh_worker_xpu.options import TorchOptions


def block_bytes(specs: Sequence[LayerSpec], dtype: torch.dtype) -> int:
    """Bytes of one block: keys and values of all layers."""
    return sum(2 * BLOCK_SIZE * spec.kv_heads * spec.head_dim for spec in specs) * dtype.itemsize


def count_blocks(
    device: TorchDevice,
    specs: Sequence[LayerSpec],
    dtype: torch.dtype,
    options: TorchOptions,
    *,
    reserved_bytes: int = 0,
    ranks: int = 1,
) -> int:
    """Number of KV blocks that the options and the device's memory allow. Call it after the model has loaded and run.

    `reserved_bytes` of an accelerator's memory stay free for other uses. `ranks`: how many processes share the model,
    each with a part of the KV cache, which on the CPU is in the same memory.

    Raises FailedPrecondition if no block fits.
    """
    each = block_bytes(specs, dtype)
    wanted = options.max_sequences * -(-options.context_length // BLOCK_SIZE)
    free, total = device.memory_bytes()
    if options.kv_cache_bytes:
        room = options.kv_cache_bytes // ranks
        count = room // each
    elif device.is_cpu:
        room = free // (4 * ranks)
        count = min(wanted, room // each)
    else:
        room = max(0, int(total * options.memory_utilisation) - (total - free) - reserved_bytes)
        count = min(wanted, room // each)
    if count < 1:
        raise FailedPrecondition(
            f"The KV cache may take {room} bytes, but one block of {BLOCK_SIZE} tokens needs {each}; "
            f"{free} of the device's {total} bytes are free. "
            "Raise INFERMESH_KV_CACHE_BYTES or INFERMESH_MEMORY_UTILISATION, or free memory.",
            reason="KV_CACHE_TOO_SMALL",
        )
    return count


def allocate(device: TorchDevice, spec: LayerSpec, blocks: int, dtype: torch.dtype) -> Tensor:
    """Zeros [blocks, BLOCK_SIZE, kv_heads, head_dim]. Kernels also read slots without a token and mask them, so these
    must be finite.

    On the CPU, memory pages are taken when they are first written, so an idle cache costs only address space.
    Raises torch.OutOfMemoryError or MemoryError.
    """
    shape = (blocks, BLOCK_SIZE, spec.kv_heads, spec.head_dim)
    if device.is_cpu:
        size = blocks * BLOCK_SIZE * spec.kv_heads * spec.head_dim * dtype.itemsize
        return torch.from_numpy(np.zeros(size, np.uint8)).view(dtype).view(shape)
    return torch.zeros(shape, dtype=dtype, device=device.handle)
