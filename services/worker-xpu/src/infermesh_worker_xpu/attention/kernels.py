"""Interface between a model's attention layers and the kernels of a device."""

# ruff: noqa: PLR0917 - flat arguments: the Triton launches need them so

from typing import Protocol

from torch import Tensor

from infermesh_worker_xpu.steps.device_step import ImageSpan

BLOCK_SIZE = 32
"""Tokens in a KV block."""


class AttentionKernels(Protocol):
    """Attention over a paged KV cache: key_cache and value_cache are [num_blocks, BLOCK_SIZE, kv_heads, head_dim].

    A query at position p sees the keys at positions ≤ p and, with a sliding window of w, > p - w. A score is
    query · key × scale; a soft cap of c turns a score s into c · tanh(s / c). Call write_kv for the new tokens first.
    """

    def write_kv(self, key: Tensor, value: Tensor, key_cache: Tensor, value_cache: Tensor, slots: Tensor) -> None:
        """Stores key and value [T, kv_heads, head_dim] at slots [T] int64 (block × BLOCK_SIZE + offset)."""
        ...

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
        """Attention of one token of each of S sequences: query and out [S, heads, head_dim], block_tables
        [S, max_blocks] int32, context_lens [S] int32 including the new token. Rows with a context of 0 become 0.
        Returns out.
        """
        ...

    def prefill(
        self,
        query: Tensor,
        key_cache: Tensor,
        value_cache: Tensor,
        block_tables: Tensor,
        begins: Tensor,
        context_lens: Tensor,
        max_new: int,
        scale: float,
        sliding_window: int | None,
        softcap: float | None,
        out: Tensor,
    ) -> Tensor:
        """Attention of the last begins[i + 1] - begins[i] ≤ max_new tokens of each of S sequences: query and out
        [T, heads, head_dim], begins [S + 1] int32, the rest as in `decode`. Runs may be empty. Rows before begins[0]
        and from begins[S] on are not written. Returns out.
        """
        ...

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
        """Attention of the tokens of a span to all keys up to the span's last; a sliding window hides what lies too
        far before a query, and nothing after it. Writes their rows of out [T, heads, head_dim]. Returns out.
        """
        ...
