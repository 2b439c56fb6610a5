"""The Triton kernel writes KV to its slots only. test_triton_attention runs this file in its own process."""

from __future__ import annotations

import os

import pytest

# Triton chooses its interpreter when it is imported, so this file has tests only in the process that sets it.
__test__ = os.environ.get("TRITON_INTERPRET") == "1"

if __test__:
    import torch

    from infermesh_worker_xpu.attention import triton_attention


@pytest.mark.parametrize("name", ["float32", "float16", "bfloat16"])
@pytest.mark.parametrize(("kv_heads", "head_dim"), [(1, 32), (3, 80), (40, 128)])
def test_write_kv_writes_its_slots_and_nothing_else(kv_heads: int, head_dim: int, name: str) -> None:
    torch.manual_seed(head_dim)
    dtype: torch.dtype = getattr(torch, name)
    key, value = (torch.randn(4, kv_heads + 1, head_dim).to(dtype)[:, :kv_heads] for _ in range(2))
    key_cache = torch.full((3, 16, kv_heads, head_dim), float("nan"), dtype=dtype)
    value_cache = key_cache.clone()
    slots = torch.tensor([47, -1, 0, 20])
    triton_attention.write_kv(key, value, key_cache, value_cache, slots)
    for cache, rows in [(key_cache, key), (value_cache, value)]:
        flat = cache.flatten(0, 1)
        kept = [0, 2, 3]
        assert torch.equal(flat[slots[kept]], rows[kept])
        assert flat.isnan().all((1, 2)).sum() == 48 - len(kept)
