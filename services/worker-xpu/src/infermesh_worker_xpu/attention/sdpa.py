"""Paged attention in plain torch: used on the CPU, and as the reference for other kernels.

Reads the cache in place where a sequence's tokens are contiguous, and gathers them where they are not.
"""

# ruff: noqa: PLR0917 - arguments in the order of kernels.AttentionKernels

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from infermesh_worker_xpu.attention.cache_reads import CacheLayout, CacheRead, ReadPlans, plan_decode, plan_prefill
from infermesh_worker_xpu.attention.spans import attend_span
from infermesh_worker_xpu.steps.device_step import ImageSpan

SMALL_TOKENS = 512
"""Contexts up to this length take torch's fused call, which starts faster but runs slower on some processors."""


class SdpaKernels:
    """`AttentionKernels` on torch's own operators. On an accelerator it waits for the device in every step."""

    def __init__(self) -> None:
        self._decodes = ReadPlans()
        self._prefills = ReadPlans()

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
        paging = CacheLayout.of(key_cache, sliding_window, query)

        def make() -> list[CacheRead]:
            return plan_decode(block_tables.cpu().numpy(), context_lens.cpu().numpy(), paging)

        # Query heads that share a KV head become rows of one matrix product, which reads the KV once.
        grouped = query.reshape(len(query), key_cache.shape[2], -1, query.shape[2])
        parts = self._decodes.get(block_tables, paging, make)
        if sum(part.sequences for part in parts) < len(query):
            out.zero_()  # some rows have no context
        for part in parts:
            keys, values = part.read(key_cache, query.dtype), part.read(value_cache, query.dtype)
            out[part.queries] = _attend_one(grouped[part.queries], keys, values, part, scale, softcap).flatten(1, 2)
        return out

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
        paging = CacheLayout.of(key_cache, sliding_window, query)

        def make() -> list[CacheRead]:
            tables, begins_, contexts = (tensor.cpu().numpy() for tensor in (block_tables, begins, context_lens))
            return plan_prefill(tables, begins_, contexts, paging)

        for part in self._prefills.get(block_tables, paging, make):
            # Query heads that share a KV head form a batch that reads it by broadcasting, without copies.
            grouped = _by_kv_head(query[part.queries], key_cache.shape[2])
            shared = (-1, grouped.shape[1], -1, -1)
            keys = part.read(key_cache, query.dtype)[0][:, None].expand(shared)
            values = part.read(value_cache, query.dtype)[0][:, None].expand(shared)
            out[part.queries] = _attend_run(grouped, keys, values, part, scale, softcap).flatten(0, 1).transpose(0, 1)
        return out

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
        return attend_span(query, key_cache, value_cache, span, scale, sliding_window, softcap, out)


def write_kv(key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slots: Tensor) -> None:
    """See `AttentionKernels.write_kv`."""
    for new, cache in ((key, key_cache), (value, value_cache)):
        cache.view(-1, *cache.shape[2:]).index_copy_(0, slots, new.to(cache.dtype))


def _attend_one(
    query: Tensor, keys: Tensor, values: Tensor, part: CacheRead, scale: float, softcap: float | None
) -> Tensor:
    """Attention of one token of each sequence: query [S, kv_heads, group, d], keys and values [S, kv_heads, m, d]."""
    mask = None if part.mask is None else part.mask[:, None]
    if softcap is None and keys.shape[2] <= SMALL_TOKENS:
        return F.scaled_dot_product_attention(query, keys, values, attn_mask=mask, scale=scale)
    folded = query.flatten(0, 1)
    keys, values = keys.flatten(0, 1), values.flatten(0, 1)
    scores = torch.bmm(folded, keys.transpose(1, 2)).view(*query.shape[:2], -1, keys.shape[1])
    weights = _weights(scores, mask, scale, softcap)
    return torch.bmm(weights.to(values.dtype).flatten(0, 1), values).view(query.shape)


def _attend_run(
    query: Tensor, keys: Tensor, values: Tensor, part: CacheRead, scale: float, softcap: float | None
) -> Tensor:
    """Attention of a run of one sequence: query [kv_heads, group, n, d], keys and values [kv_heads, group, m, d]."""
    if softcap is None:
        return F.scaled_dot_product_attention(
            query, keys, values, attn_mask=part.mask, is_causal=part.causal, scale=scale
        )
    mask = part.mask
    if part.causal:
        mask = query.new_full((query.shape[2], keys.shape[2]), float("-inf")).triu_(1)
    weights = _weights(torch.matmul(query, keys.transpose(2, 3)), mask, scale, softcap)
    return torch.matmul(weights.to(values.dtype), values)


def _by_kv_head(query: Tensor, kv_heads: int) -> Tensor:
    """[n, heads, d] to [kv_heads, group, n, d]."""
    tokens, _, head_dim = query.shape
    return query.transpose(0, 1).view(kv_heads, -1, tokens, head_dim)


def _weights(scores: Tensor, mask: Tensor | None, scale: float, softcap: float | None) -> Tensor:
    """Softmax over the last dimension, in float32."""
    scores = scores.float()
    scores = scores * scale if softcap is None else softcap * torch.tanh(scores * (scale / softcap))
    return (scores if mask is None else scores + mask).softmax(-1)
