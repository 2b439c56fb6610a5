"""Owns how many KV blocks there are and where their memory comes from. Knows no model but its layers' sizes."""

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
    """Memory of one block over all layers, keys and values."""
    return sum(2 * BLOCK_SIZE * spec.kv_heads * spec.head_dim for spec in specs) * dtype.itemsize


def count_blocks(
    device: TorchDevice,
    specs: Sequence[LayerSpec],
    dtype: torch.dtype,
    options: TorchOptions,
    *,
    reserved_bytes: int = 0,
) -> int:
    """Blocks that the options and the device's memory allow, once the model is loaded and has run.

    `reserved_bytes` of an accelerator's memory are left to others. Raises FailedPrecondition when there is no room for
    one.
    """
    each = block_bytes(specs, dtype)
    wanted = options.max_sequences * -(-options.context_length // BLOCK_SIZE)
    free, total = device.memory_bytes()
    if options.kv_cache_bytes:
        room = options.kv_cache_bytes
        count = room // each
    elif device.is_cpu:
        room = free // 4
        count = min(wanted, room // each)
    else:
        room = max(0, int(total * options.memory_utilisation) - (total - free) - reserved_bytes)
        count = min(wanted, room // each)
    if count < 1:
        raise FailedPrecondition(
            f"a KV cache of {room} bytes holds no block: one of {BLOCK_SIZE} tokens needs {each}; "
            f"{free} of {total} bytes are free on the device",
            reason="KV_CACHE_TOO_SMALL",
        )
    return count


def allocate(device: TorchDevice, spec: LayerSpec, blocks: int, dtype: torch.dtype) -> Tensor:
    """Zeros [blocks, BLOCK_SIZE, kv_heads, head_dim]: what no token has written is read too, and masked.

    On the CPU its pages are touched when they are first written, so an idle cache costs address space only.
    Raises torch.OutOfMemoryError or MemoryError.
    """
    shape = (blocks, BLOCK_SIZE, spec.kv_heads, spec.head_dim)
    if device.is_cpu:
        size = blocks * BLOCK_SIZE * spec.kv_heads * spec.head_dim * dtype.itemsize
        return torch.from_numpy(np.zeros(size, np.uint8)).view(dtype).view(shape)
    return torch.zeros(shape, dtype=dtype, device=device.handle)
