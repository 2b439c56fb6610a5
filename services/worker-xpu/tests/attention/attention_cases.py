"""Random attention inputs in a paged cache, and attention written out in float64 to compare with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TOLERANCE = {torch.float32: 2e-6, torch.float16: 2e-3, torch.bfloat16: 1e-2}
"""Relative error allowed in each precision."""
DTYPES = list(TOLERANCE)


@dataclass(frozen=True, slots=True)
class Case:
    contexts: tuple[int, ...]  # past + new of each sequence
    news: tuple[int, ...] = ()
    heads: int = 4
    kv_heads: int = 2
    head_dim: int = 32
    block_size: int = 16
    window: int | None = None
    softcap: float | None = None
    dtype: torch.dtype = torch.float32
    splits: int | None = None
    spare_blocks: int = 2

    @property
    def scale(self) -> float:
        return float(self.head_dim**-0.5)


class Cache:
    """Sequences in scattered blocks. Whatever was not written or must not be read is NaN."""

    def __init__(self, case: Case) -> None:
        self.case = case
        width = -(-max(*case.contexts, 1) // case.block_size) + case.spare_blocks
        count = width * len(case.contexts)
        shape = (count + 1, case.block_size, case.kv_heads, case.head_dim)
        self.key_cache = torch.full(shape, float("nan"), dtype=case.dtype)
        self.value_cache = self.key_cache.clone()
        self.tables = torch.randperm(count).to(torch.int32).view(len(case.contexts), width)
        self.keys = [self._random(length) for length in case.contexts]
        self.values = [self._random(length) for length in case.contexts]
        slots = [
            self.tables[i].long()[torch.arange(length) // case.block_size] * case.block_size
            + torch.arange(length) % case.block_size
            for i, length in enumerate(case.contexts)
        ]
        for cache, rows in [(self.key_cache, self.keys), (self.value_cache, self.values)]:
            cache.flatten(0, 1)[torch.cat(slots)] = torch.cat(rows)
        for row, length in zip(self.tables, case.contexts, strict=True):
            row[-(-length // case.block_size) :] = count  # a block of NaN

    def _random(self, length: int) -> Tensor:
        return torch.randn(length, self.case.kv_heads, self.case.head_dim).to(self.case.dtype)

    def forget_before(self, row: int, position: int) -> None:
        """Frees the blocks that end before a position, as the engine does behind a sliding window."""
        self.tables[row, : position // self.case.block_size] = self.key_cache.shape[0] - 1


def eager(case: Case, query: Tensor, keys: Tensor, values: Tensor) -> Tensor:
    """Attention in float64 of the last len(query) positions."""
    query, keys, values = (tensor.double() for tensor in (query, keys, values))
    group = case.heads // case.kv_heads
    keys, values = keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)
    scores = torch.einsum("qhd,khd->hqk", query, keys) * case.scale
    if case.softcap is not None:
        scores = case.softcap * torch.tanh(scores / case.softcap)
    at = torch.arange(len(keys) - len(query), len(keys))[:, None]
    of = torch.arange(len(keys))[None, :]
    seen = of <= at
    if case.window is not None:
        seen &= of > at - case.window
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -torch.inf).softmax(-1), values)


def assert_close(found: Tensor, expected: Tensor, dtype: torch.dtype) -> None:
    assert torch.isfinite(found).all(), "not all was written, or what is no part of the context was read"
    error = (found.double() - expected).norm() / expected.norm().clamp_min(1e-30)
    assert error < TOLERANCE[dtype], f"relative error {error:.2e}"


def random_query(case: Case, rows: int) -> Tensor:
    """A strided view, as a fused projection gives."""
    return torch.randn(rows, case.heads + 1, case.head_dim).to(case.dtype)[:, : case.heads]
