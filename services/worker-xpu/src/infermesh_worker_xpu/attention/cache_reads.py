"""Plans which tokens of the KV cache a step reads, and builds the masks of what each query may see."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

SHORT_TOKENS = 256
"""Contexts up to this length are read together whatever their length: their padding costs less than a second call."""
TOGETHER_TOKENS = 1024
"""More contexts are read in parts of so many tokens, which a processor's cache holds until they are used."""


@dataclass(frozen=True, slots=True)
class CacheLayout:
    """Layout of a layer's cache [blocks, block_size, kv_heads, head_dim], and what its queries need of it."""

    block_size: int
    kv_heads: int
    window: int | None
    dtype: torch.dtype
    """Precision of the queries."""
    device: torch.device

    @classmethod
    def of(cls, cache: Tensor, window: int | None, query: Tensor) -> Self:
        """The layout of a layer's cache, read by these queries."""
        return cls(cache.shape[1], cache.shape[2], window, query.dtype, query.device)


@dataclass(frozen=True, slots=True)
class CacheRead:
    """Sequences that are read together, padded to the longest. A prefill reads one sequence at a time."""

    queries: slice | Tensor
    """Indices of their queries among the tokens of the step's decode or prefill part."""
    sequences: int
    source: slice | Tensor
    """What to read: a slice of the cache's tokens if one sequence's tokens are contiguous, else the index of each
    vector, by sequence, KV head and token."""
    mask: Tensor | None
    """0 or -inf, added to the scores: [S, 1, tokens] for decode, [new, tokens] for prefill."""
    causal: bool = False
    """Whether each query sees exactly the tokens up to its own index; then there is no mask."""

    def read(self, cache: Tensor, dtype: torch.dtype) -> Tensor:
        """Keys or values [S, kv_heads, tokens, head_dim]; a view without a copy if they are contiguous."""
        kv_heads, head_dim = cache.shape[2:]
        if isinstance(self.source, slice):
            return cache.view(-1, kv_heads, head_dim)[self.source].transpose(0, 1)[None].to(dtype)
        vectors = cache.view(-1, head_dim).index_select(0, self.source)
        return vectors.view(self.sequences, kv_heads, -1, head_dim).to(dtype)


class ReadPlans:
    """The reads of the current step. The first layer that needs them plans them, later layers reuse them."""

    def __init__(self) -> None:
        self._step: Tensor | None = None
        self._made: dict[CacheLayout, list[CacheRead]] = {}

    def get(self, step: Tensor, paging: CacheLayout, make: Callable[[], list[CacheRead]]) -> list[CacheRead]:
        """`step` identifies the step: all its layers pass the same tensor, and no other step does."""
        if self._step is not step:
            self._step, self._made = step, {}
        if paging not in self._made:
            self._made[paging] = make()
        return self._made[paging]


def plan_decode(tables: NDArray[np.int32], contexts: NDArray[np.int32], paging: CacheLayout) -> list[CacheRead]:
    """Reads of S decodes: one query each, with contexts [S] in tokens and block tables [S, max_blocks]."""
    begins = np.maximum(contexts - paging.window, 0) if paging.window is not None else np.zeros_like(contexts)
    counts = contexts - begins
    plan = []
    filled = np.flatnonzero(contexts)
    for group in _in_parts(counts[filled]) if len(filled) else ():
        members = filled[group]
        positions = begins[members, None] + np.arange(counts[members].max())
        seen = positions < contexts[members, None]
        positions = np.minimum(positions, contexts[members, None] - 1)
        tokens = _tokens(tables[members[:, None], positions // paging.block_size], positions, paging)
        # a slice keeps the order: indices would copy the queries and results of the whole step
        queries = slice(None) if len(members) == len(contexts) else torch.from_numpy(members).to(paging.device)
        mask = None if seen.all() else _additive(seen, paging)[:, None]
        plan.append(CacheRead(queries, len(members), _source(tokens, paging), mask))
    return plan


def plan_prefill(
    tables: NDArray[np.int32], begins: NDArray[np.int32], contexts: NDArray[np.int32], paging: CacheLayout
) -> list[CacheRead]:
    """Reads of S prefills, with contexts [S] in tokens; begins [S + 1] says where each run of queries begins."""
    plan = []
    window = paging.window
    for table, begin, end, context in zip(
        tables, begins[:-1].tolist(), begins[1:].tolist(), contexts.tolist(), strict=True
    ):
        if begin == end:
            continue
        past = context - (end - begin)
        keys = np.arange(0 if window is None else max(0, past + 1 - window), context)
        causal = past == 0 and (window is None or window >= context)
        mask = None
        if not causal:
            queries = np.arange(past, context)[:, None]
            seen = keys <= queries
            if window is not None:
                seen &= keys > queries - window
            mask = _additive(seen, paging)
        tokens = _tokens(table[keys // paging.block_size], keys, paging)[None]
        plan.append(CacheRead(slice(begin, end), 1, _source(tokens, paging), mask, causal))
    return plan


def _in_parts(counts: NDArray[np.int32]) -> Iterator[NDArray[np.int64]]:
    """Indices of contexts to read together: of similar length, and at most TOGETHER_TOKENS in all or one context."""
    for group in _of_like_length(counts):
        each = max(1, TOGETHER_TOKENS // int(counts[group].max()))
        yield from np.array_split(group, -(-len(group) // each))


def _of_like_length(counts: NDArray[np.int32]) -> Iterator[NDArray[np.int64]]:
    """Groups indices of contexts of similar length: padding at most doubles a context, unless the context is short."""
    if counts.max() <= max(SHORT_TOKENS, 2 * counts.min()):
        yield np.arange(len(counts))
        return
    order = np.argsort(-counts, kind="stable")
    start = 0
    for i in range(1, len(order) + 1):
        longest = counts[order[start]]
        if i == len(order) or (longest > SHORT_TOKENS and 2 * counts[order[i]] < longest):
            yield order[start:i]
            start = i


def _tokens(blocks: NDArray[np.int32], positions: NDArray[np.integer[Any]], paging: CacheLayout) -> NDArray[np.int64]:
    """Indices of tokens in the cache."""
    return blocks.astype(np.int64) * paging.block_size + positions % paging.block_size


def _source(tokens: NDArray[np.int64], paging: CacheLayout) -> slice | Tensor:
    """`CacheRead.source` of the cache's tokens [S, n]."""
    if len(tokens) == 1 and (np.diff(tokens[0]) == 1).all():
        return slice(int(tokens[0, 0]), int(tokens[0, -1]) + 1)
    vectors = tokens[:, None] * paging.kv_heads + np.arange(paging.kv_heads)[:, None]
    return torch.from_numpy(vectors.ravel()).to(paging.device)


def _additive(seen: NDArray[np.bool_], paging: CacheLayout) -> Tensor:
    hidden = torch.from_numpy(~seen).to(paging.device)
    return torch.zeros(seen.shape, dtype=paging.dtype, device=paging.device).masked_fill_(hidden, float("-inf"))
