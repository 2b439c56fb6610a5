"""Attention of the tokens of an image that see each other, in plain torch for any device."""

# ruff: noqa: PLR0917 - arguments in the order of kernels.AttentionKernels

import torch
from torch import Tensor

from infermesh_worker_xpu.steps.device_step import ImageSpan


def attend_span(
    query: Tensor,
    key_cache: Tensor,
    value_cache: Tensor,
    span: ImageSpan,
    scale: float,
    sliding_window: int | None,
    softcap: float | None,
    out: Tensor,
) -> Tensor:
    """As `AttentionKernels.attend_span`. Scores are float32."""
    own = slice(span.first, span.first + span.tokens)
    context = span.position + span.tokens
    heads, group = query.shape[1], query.shape[1] // key_cache.shape[2]
    keys, values = (_context(cache, span, context).repeat_interleave(group, 1) for cache in (key_cache, value_cache))
    scores = torch.einsum("qhd,khd->hqk", query[own].float(), keys.float()) * scale
    if softcap is not None:
        scores = softcap * torch.tanh(scores / softcap)
    if sliding_window is not None:
        places = torch.arange(context, device=query.device)
        hidden = places[None] <= places[span.position :, None] - sliding_window
        scores.masked_fill_(hidden, float("-inf"))
    mixed = torch.einsum("hqk,khd->qhd", scores.softmax(-1), values.float())
    out[own] = mixed.view(span.tokens, heads, -1).to(out.dtype)
    return out


def _context(cache: Tensor, span: ImageSpan, context: int) -> Tensor:
    """[context, kv_heads, head_dim] of the sequence's tokens up to the image's last."""
    return cache[span.blocks.long()].flatten(0, 1)[:context]
