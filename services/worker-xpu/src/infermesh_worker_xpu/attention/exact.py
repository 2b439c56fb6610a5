"""Paged attention that gives the same bits for a query however its sequence is split or batched.

Every matrix product has the same shape: QUERIES queries by KEYS keys, counted from the start of the sequence. The tiles
of a context are added in order, and a tile that a query may not see leaves its sums unchanged to the last bit.
"""

# ruff: noqa: PLR0917 - arguments in the order of kernels.AttentionKernels

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from infermesh_worker_xpu.attention.sdpa import write_kv
from infermesh_worker_xpu.steps.device_step import ImageSpan

QUERIES = 4
KEYS = 256
_LOWEST = -1e30
"""Lower than any score but finite, so that its difference to itself is 0 and not NaN."""


class QueryTile(NamedTuple):
    """Up to QUERIES consecutive queries of one sequence."""

    sequence: int
    token: int
    """Index of the first query in the batch."""
    position: int
    """Position of the first query in its sequence."""
    queries: int


@dataclass(frozen=True, slots=True)
class Scoring:
    """How a layer computes attention scores."""

    scale: float
    window: int | None
    softcap: float | None


class ExactKernels:
    """`AttentionKernels` in float32 on the CPU, with the same bits however a sequence is split or batched."""

    def write_kv(self, key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slots: Tensor) -> None:
        write_kv(key, value, key_cache, value_cache, slots)

    def decode(
        self,
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        block_tables: Tensor,
        context_lens: Tensor,
        scale: float,
        sliding_window: int | None,
        softcap: float | None,
        out: Tensor,
    ) -> Tensor:
        tiles = [QueryTile(i, i, context - 1, 1) for i, context in enumerate(context_lens.tolist())]
        return _attend(query, key_cache, value_cache, block_tables, tiles, Scoring(scale, sliding_window, softcap), out)

    def prefill(
        self,
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        block_tables: Tensor,
        begins: Tensor,
        context_lens: Tensor,
        max_new: int,  # noqa: ARG002 - part of the protocol
        scale: float,
        sliding_window: int | None,
        softcap: float | None,
        out: Tensor,
    ) -> Tensor:
        tiles = list(_tiles(begins.tolist(), context_lens.tolist()))
        return _attend(query, key_cache, value_cache, block_tables, tiles, Scoring(scale, sliding_window, softcap), out)

    def attend_span(
        self,
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        span: ImageSpan,
        scale: float,
        sliding_window: int | None,
        softcap: float | None,
        out: Tensor,
    ) -> Tensor:
        tiles, scoring = list(_span_tiles(span)), Scoring(scale, sliding_window, softcap)
        last = span.position + span.tokens - 1
        return _attend(query, key_cache, value_cache, span.blocks[None], tiles, scoring, out, last)


def _span_tiles(span: ImageSpan) -> Iterator[QueryTile]:
    for at in range(0, span.tokens, QUERIES):
        yield QueryTile(0, span.first + at, span.position + at, min(QUERIES, span.tokens - at))


def _tiles(begins: list[int], contexts: list[int]) -> Iterator[QueryTile]:
    for sequence, context in enumerate(contexts):
        begin, end = begins[sequence], begins[sequence + 1]
        for token in range(begin, end, QUERIES):
            yield QueryTile(sequence, token, context - (end - token), min(QUERIES, end - token))


def _attend(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    tables: Tensor,
    tiles: list[QueryTile],
    shape: Scoring,
    out: Tensor,
    last: int | None = None,
) -> Tensor:
    """Computes the attention of all tiles; `query` and `out` [T, heads, head_dim]. Returns `out`.

    `last`: the last position that all queries see; None: each sees those up to its own.
    """
    heads, head_dim = query.shape[1:]
    kv_heads = key_cache.shape[2]
    first = torch.tensor([tile.token for tile in tiles])
    counts = torch.tensor([tile.queries for tile in tiles])
    offsets = torch.arange(QUERIES)
    tokens = torch.minimum(first[:, None] + offsets, (first + counts - 1)[:, None])
    positions = torch.tensor([tile.position for tile in tiles])[:, None] + offsets
    # [tile × kv head, query × group, head_dim]
    rows = (
        query[tokens]
        .view(len(tiles), QUERIES, kv_heads, -1, head_dim)
        .permute(0, 2, 1, 3, 4)
        .reshape(len(tiles) * kv_heads, -1, head_dim)
    )
    sequences = torch.tensor([tile.sequence for tile in tiles])
    lasts = positions if last is None else torch.full_like(positions, last)
    sums = _sums(rows, key_cache, value_cache, tables[sequences], positions, lasts, shape)
    result = sums.view(len(tiles), kv_heads, QUERIES, -1, head_dim).permute(0, 2, 1, 3, 4).reshape(-1, heads, head_dim)
    wanted = (offsets < counts[:, None]).ravel()
    out[tokens.ravel()[wanted]] = result[wanted]
    return out


def _sums(
    rows: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    tables: Tensor,
    positions: Tensor,
    lasts: Tensor,
    shape: Scoring,
) -> Tensor:
    """Attention of rows [tiles × kv_heads, queries × group, head_dim].

    The tables, the queries' positions and the last ones that they see have a row per tile.
    """
    block_size, kv_heads = key_cache.shape[1:3]
    group = rows.shape[1] // QUERIES
    largest = rows.new_full((*rows.shape[:2], 1), _LOWEST)
    weights = rows.new_zeros((*rows.shape[:2], 1))
    sums = torch.zeros_like(rows)
    for begin in range(0, int(lasts.max()) + 1, KEYS):
        columns = torch.arange(begin // block_size, (begin + KEYS) // block_size).clamp_(max=tables.shape[1] - 1)
        blocks = tables[:, columns].long().ravel()
        keys, values = (_gathered(cache, blocks, kv_heads) for cache in (key_cache, value_cache))
        scores = torch.bmm(rows, keys.transpose(1, 2)) * shape.scale
        if shape.softcap is not None:
            scores = shape.softcap * torch.tanh(scores / shape.softcap)
        seen = _seen(positions, lasts, begin, shape.window)[:, None, :, None].expand(-1, kv_heads, -1, group, -1)
        scores.masked_fill_(~seen.reshape(scores.shape), float("-inf"))
        highest = torch.maximum(largest, scores.amax(-1, keepdim=True))
        kept = torch.exp(largest - highest)
        scores = torch.exp(scores - highest)
        weights = weights * kept + scores.sum(-1, keepdim=True)
        sums = sums * kept + torch.bmm(scores, values)
        largest = highest
    return sums / weights


def _gathered(cache: Tensor, blocks: Tensor, kv_heads: int) -> Tensor:
    """Keys or values [tiles × kv_heads, KEYS, head_dim] of the blocks, KEYS tokens per tile."""
    tokens = cache.index_select(0, blocks).view(-1, KEYS, kv_heads, cache.shape[3])
    return tokens.transpose(1, 2).reshape(-1, KEYS, cache.shape[3])


def _seen(positions: Tensor, lasts: Tensor, begin: int, window: int | None) -> Tensor:
    """[tiles, queries, KEYS]: whether a query may see each of the keys from position `begin` on."""
    keys = torch.arange(begin, begin + KEYS)
    seen = keys <= lasts[:, :, None]
    return seen if window is None else seen & (keys > positions[:, :, None] - window)
