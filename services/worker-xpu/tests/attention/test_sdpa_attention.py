"""Compares the plain-torch kernels with attention written out, for contiguous, scattered and mixed contexts."""

# ruff: noqa: PLR0917 - as the code it tests

import math

import pytest
import torch
from torch import Tensor

from infermesh_worker_xpu.attention import cache_reads
from infermesh_worker_xpu.attention import sdpa as sdpa_attention
from infermesh_worker_xpu.attention.cache_reads import CacheLayout, plan_decode
from infermesh_worker_xpu.attention.exact import ExactKernels
from infermesh_worker_xpu.attention.kernels import AttentionKernels
from infermesh_worker_xpu.attention.sdpa import SdpaKernels

HEADS, KV_HEADS, HEAD_DIM, BLOCK, BLOCKS = 6, 2, 16, 16, 128
SCALE = 0.2


def expected(
    query: Tensor, keys: Tensor, values: Tensor, past: int, window: int | None, softcap: float | None
) -> torch.Tensor:
    """Attention of query [n, heads, d] to keys and values [m, kv_heads, d], one score at a time."""
    out = torch.zeros_like(query)
    for i, head in ((i, h) for i in range(len(query)) for h in range(HEADS)):
        position = past + i
        first = 0 if window is None else max(0, position - window + 1)
        group = head // (HEADS // KV_HEADS)
        scores = keys[first : position + 1, group] @ query[i, head] * SCALE
        if softcap is not None:
            scores = softcap * torch.tanh(scores / softcap)
        out[i, head] = scores.softmax(0) @ values[first : position + 1, group]
    return out


class Cache:
    """A KV cache with sequences of these lengths, written by the kernels."""

    def __init__(self, lengths: list[int], *, in_order: bool) -> None:
        torch.manual_seed(1)
        counts = [-(-length // BLOCK) for length in lengths]
        blocks = torch.arange(sum(counts)) if in_order else torch.randperm(BLOCKS)[: sum(counts)]
        self.keys, self.values = (torch.zeros(BLOCKS, BLOCK, KV_HEADS, HEAD_DIM) for _ in range(2))
        self.tables = torch.zeros((len(lengths), max(counts)), dtype=torch.int32)
        self.context_lens = torch.tensor(lengths, dtype=torch.int32)
        self.parts = []
        for i, (length, mine) in enumerate(zip(lengths, torch.split(blocks, counts), strict=True)):
            self.tables[i, : len(mine)] = mine
            key, value = torch.randn(2, length, KV_HEADS, HEAD_DIM)
            positions = torch.arange(length)
            slots = mine[positions // BLOCK] * BLOCK + positions % BLOCK
            sdpa_attention.write_kv(key, value, self.keys, self.values, slots)
            self.parts.append((key, value))


@pytest.fixture(params=[SdpaKernels, ExactKernels])
def kernels(request: pytest.FixtureRequest) -> AttentionKernels:
    made: AttentionKernels = request.param()
    return made


@pytest.mark.parametrize("lengths", [[1], [37], [600], [5, 40, 17, 1], [1100, 3, 20, 500, 90, 16]], ids=str)
@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (20, None), (None, 3.0), (20, 3.0)])
def test_decode(
    lengths: list[int], in_order: bool, window: int | None, softcap: float | None, kernels: AttentionKernels
) -> None:
    cache = Cache(lengths, in_order=in_order)
    query = torch.randn(len(lengths), HEADS, HEAD_DIM)
    out = torch.full_like(query, math.nan)
    shape = SCALE, window, softcap
    kernels.decode(query, cache.keys, cache.values, cache.tables, cache.context_lens, *shape, out)
    for i, (key, value) in enumerate(cache.parts):
        wanted = expected(query[i : i + 1], key, value, lengths[i] - 1, window, softcap)
        torch.testing.assert_close(out[i : i + 1], wanted, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("in_order", [True, False])
@pytest.mark.parametrize(("window", "softcap"), [(None, None), (20, None), (None, 3.0), (20, 3.0), (200, None)])
def test_prefill(in_order: bool, window: int | None, softcap: float | None, kernels: AttentionKernels) -> None:
    lengths, new = [30, 70, 300, 1], [30, 9, 41, 1]
    cache = Cache(lengths, in_order=in_order)
    query = torch.randn(sum(new), HEADS, HEAD_DIM)
    out = torch.full_like(query, math.nan)
    begins = torch.tensor([0, 30, 39, 80, 81], dtype=torch.int32)
    shape = SCALE, window, softcap
    kernels.prefill(query, cache.keys, cache.values, cache.tables, begins, cache.context_lens, max(new), *shape, out)
    for i, (key, value) in enumerate(cache.parts):
        part = slice(int(begins[i]), int(begins[i + 1]))
        wanted = expected(query[part], key, value, lengths[i] - new[i], window, softcap)
        torch.testing.assert_close(out[part], wanted, atol=1e-5, rtol=1e-4)


def test_many_contexts_are_read_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_reads, "TOGETHER_TOKENS", 100)
    lengths = [40, 50, 30, 45, 20, 7]
    cache = Cache(lengths, in_order=False)
    layout = CacheLayout.of(cache.keys, None, torch.zeros(1))
    plan = plan_decode(cache.tables.numpy(), cache.context_lens.numpy(), layout)
    assert [part.sequences for part in plan] == [2, 2, 2]
    query = torch.randn(len(lengths), HEADS, HEAD_DIM)
    out = torch.full_like(query, math.nan)
    SdpaKernels().decode(query, cache.keys, cache.values, cache.tables, cache.context_lens, SCALE, None, None, out)
    for i, (key, value) in enumerate(cache.parts):
        wanted = expected(query[i : i + 1], key, value, lengths[i] - 1, None, None)
        torch.testing.assert_close(out[i : i + 1], wanted, atol=1e-5, rtol=1e-4)


def test_a_new_step_is_planned_anew() -> None:
    """The plans of one step must not serve another whose tables have the same shape."""
    kernels = SdpaKernels()
    for seed_order in (True, False):
        cache = Cache([40, 50], in_order=seed_order)
        query = torch.randn(2, HEADS, HEAD_DIM)
        for _layer in range(2):
            out = torch.empty_like(query)
            kernels.decode(query, cache.keys, cache.values, cache.tables, cache.context_lens, SCALE, None, None, out)
            wanted = expected(query[:1], *cache.parts[0], 39, None, None)
            torch.testing.assert_close(out[:1], wanted, atol=1e-5, rtol=1e-4)


def test_one_layer_functions_are_the_kernels() -> None:
    cache = Cache([40, 50], in_order=False)
    query = torch.randn(90, HEADS, HEAD_DIM)
    arrays = cache.keys, cache.values, cache.tables
    begins = torch.tensor([0, 40, 90], dtype=torch.int32)
    whole = SdpaKernels().prefill(
        query, *arrays, begins, cache.context_lens, 50, SCALE, None, None, torch.empty_like(query)
    )
    last = SdpaKernels().decode(
        query[[39, 89]], *arrays, cache.context_lens, SCALE, None, None, torch.empty(2, HEADS, HEAD_DIM)
    )
    torch.testing.assert_close(whole[[39, 89]], last)
