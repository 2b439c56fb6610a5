"""Checks shapes, dtypes and layouts of the tensors that the Triton kernels get.

It does not check values: they are on the device, and reading them would wait for it.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from infermesh_worker_xpu.attention.triton_tiles import power_of_two_above

MAX_HEAD_DIM = 256
DTYPES = (torch.bfloat16, torch.float16, torch.float32)


@dataclass(frozen=True, slots=True)
class Geometry:
    """Sizes that query and caches have in common."""

    heads: int
    kv_heads: int
    head_dim: int
    block_size: int

    @property
    def group(self) -> int:
        """Query heads that share a KV head."""
        return self.heads // self.kv_heads

    @property
    def dim_padded(self) -> int:
        return max(16, power_of_two_above(self.head_dim))

    @classmethod
    def of(cls, query: Tensor, key_cache: Tensor, value_cache: Tensor, out: Tensor) -> "Geometry":
        """Reads the sizes off the tensors. Raises ValueError if shapes, dtypes or layouts do not match."""
        _, heads, head_dim = query.shape
        check_caches(key_cache, value_cache, query.dtype, head_dim)
        _, block_size, kv_heads, _ = key_cache.shape
        if heads % kv_heads:
            raise ValueError(f"{heads} heads cannot share {kv_heads} KV heads evenly")
        if out.shape != query.shape or out.dtype != query.dtype:
            raise ValueError(
                f"out is {out.dtype} {tuple(out.shape)}, but must be as query: {query.dtype} {tuple(query.shape)}"
            )
        check_rows(query=query, out=out)
        return cls(heads, kv_heads, head_dim, block_size)


def check_caches(key_cache: Tensor, value_cache: Tensor, dtype: torch.dtype, head_dim: int) -> None:
    """Raises ValueError unless both caches are contiguous and have this dtype and head size."""
    if key_cache.shape != value_cache.shape or not (key_cache.is_contiguous() and value_cache.is_contiguous()):
        raise ValueError("key and value cache must be contiguous and have the same shape")
    if key_cache.dtype != dtype or value_cache.dtype != dtype or dtype not in DTYPES:
        raise ValueError(
            f"inputs are {dtype}, caches {key_cache.dtype} and {value_cache.dtype}; all must have one dtype of {DTYPES}"
        )
    if key_cache.shape[3] != head_dim or not 0 < head_dim <= MAX_HEAD_DIM:
        raise ValueError(
            f"head size is {head_dim}, the caches' {key_cache.shape[3]}; they must be equal and at most {MAX_HEAD_DIM}"
        )


def check_rows(**tensors: Tensor) -> None:
    """Raises ValueError if the rows of a tensor are not contiguous."""
    for name, tensor in tensors.items():
        if tensor.stride(-1) != 1:
            raise ValueError(f"{name}'s last dimension must be contiguous, its strides are {tensor.stride()}")


def check_indices(dtype: torch.dtype, **tensors: Tensor) -> None:
    """Raises ValueError if an index tensor has another dtype or is strided."""
    for name, tensor in tensors.items():
        if tensor.dtype != dtype or tensor.stride(-1) != 1:
            raise ValueError(f"{name} must be contiguous {dtype}, not {tensor.dtype}")
