"""Triton kernel of prefill attention over a paged context."""

# Triton has no types and may be absent:
# mypy: disable-error-code="import-untyped, import-not-found, untyped-decorator"
# ruff: noqa: N803, PLR0917 - as in triton_kernels

import triton
import triton.language as tl

from infermesh_worker_xpu.attention.triton_kernels import _accumulate, _load_kv, _scores


@triton.jit
def _sequence_of(
    tile: tl.tensor, begins: tl.tensor, sequences: tl.tensor, GROUP: tl.constexpr, ROWS: tl.constexpr
) -> tl.tensor:
    """The sequence of a tile: the last one whose first tile, begins × GROUP // ROWS + index, is not after it.

    Adding the index leaves room for a partial tile of each sequence, so the grid size depends only on T and S.
    """
    low = tile * 0
    high = low + sequences
    while low + 1 < high:
        middle = (low + high) // 2
        if tl.load(begins + middle) * GROUP // ROWS + middle <= tile:
            low = middle
        else:
            high = middle
    return low


@triton.jit
def _attend(
    q: tl.tensor, peak: tl.tensor, total: tl.tensor, acc: tl.tensor, row_position: tl.tensor, begin: tl.tensor,
    end: tl.tensor, first: tl.tensor, key_cache: tl.tensor, value_cache: tl.tensor, table: tl.tensor,
    kv_head: tl.tensor, scale: tl.tensor, softcap: tl.tensor, window: tl.tensor,
    KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, DIM_PADDED: tl.constexpr, BLOCK_SIZE: tl.constexpr,
    TOKENS: tl.constexpr, MASKED: tl.constexpr, WINDOWED: tl.constexpr, SOFTCAP: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:  # fmt: skip
    """Adds positions [begin, end) to the sums. MASKED false: whole tiles, and every row sees every position."""
    for start in range(begin, end, TOKENS):
        position = start + tl.arange(0, TOKENS)
        valid = (position >= first) & (position < end) if MASKED else position >= 0
        keys, values = _load_kv(
            key_cache, value_cache, table, position, valid, kv_head, KV_HEADS, HEAD_DIM, DIM_PADDED, BLOCK_SIZE
        )
        scores = _scores(q, keys, scale, softcap, SOFTCAP)
        if MASKED:
            seen = valid[None, :] & (position[None, :] <= row_position[:, None])
            if WINDOWED:
                seen = seen & (position[None, :] > row_position[:, None] - window)
            scores = tl.where(seen, scores, float("-inf"))
        peak, total, acc = _accumulate(scores, values, peak, total, acc)
    return peak, total, acc


@triton.jit(do_not_specialize=["table_stride", "window", "sequences"])
def prefill_kernel(
    query: tl.tensor, key_cache: tl.tensor, value_cache: tl.tensor, tables: tl.tensor, begins: tl.tensor,
    context_lens: tl.tensor, out: tl.tensor, scale: tl.tensor, softcap: tl.tensor, window: tl.tensor,
    sequences: tl.tensor, table_stride: tl.tensor, query_token_stride: tl.tensor, query_head_stride: tl.tensor,
    out_token_stride: tl.tensor, out_head_stride: tl.tensor,
    KV_HEADS: tl.constexpr, GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, DIM_PADDED: tl.constexpr,
    BLOCK_SIZE: tl.constexpr, ROWS: tl.constexpr, TOKENS: tl.constexpr, WINDOWED: tl.constexpr,
    SOFTCAP: tl.constexpr,
) -> None:  # fmt: skip
    """Grid ((⌊T × GROUP / ROWS⌋ + S) × kv_heads,): ROWS pairs (new token, head of one KV head) of one sequence.

    Programs go from the last tile to the first, because in a causal prompt the last tiles take longest.
    """
    program = tl.num_programs(0) - 1 - tl.program_id(0)
    kv_head = program % KV_HEADS
    tile = program // KV_HEADS
    sequence = _sequence_of(tile, begins, sequences, GROUP, ROWS)
    begin_token = tl.load(begins + sequence)
    new = tl.load(begins + sequence + 1) - begin_token
    first_row = (tile - begin_token * GROUP // ROWS - sequence) * ROWS
    if (first_row < 0) | (first_row >= new * GROUP):  # below 0: tiles of tokens before the first sequence
        return

    past = tl.load(context_lens + sequence) - new
    row = first_row + tl.arange(0, ROWS)
    token = row // GROUP
    head = kv_head * GROUP + row % GROUP
    dim = tl.arange(0, DIM_PADDED)
    row_valid = (token < new)[:, None] & (dim < HEAD_DIM)[None, :]
    token_row = (begin_token + token).to(tl.int64)[:, None]
    q = tl.load(
        query + token_row * query_token_stride + head[:, None] * query_head_stride + dim[None, :],
        mask=row_valid,
        other=0.0,
    )
    table = tables + sequence.to(tl.int64) * table_stride

    first_position = past + first_row // GROUP
    end = past + tl.minimum((first_row + ROWS - 1) // GROUP + 1, new)
    first = tl.maximum(first_position - window + 1, 0) if WINDOWED else first_position * 0
    begin = first // TOKENS * TOKENS
    unmasked = begin if WINDOWED else (first_position + 1) // TOKENS * TOKENS
    peak = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    acc = tl.zeros([ROWS, DIM_PADDED], tl.float32)
    if not WINDOWED:
        peak, total, acc = _attend(
            q, peak, total, acc, past + token, begin, unmasked, first, key_cache, value_cache, table, kv_head,
            scale, softcap, window, KV_HEADS, HEAD_DIM, DIM_PADDED, BLOCK_SIZE, TOKENS, False, False, SOFTCAP,
        )  # fmt: skip
    peak, total, acc = _attend(
        q, peak, total, acc, past + token, unmasked, end, first, key_cache, value_cache, table, kv_head,
        scale, softcap, window, KV_HEADS, HEAD_DIM, DIM_PADDED, BLOCK_SIZE, TOKENS, True, WINDOWED, SOFTCAP,
    )  # fmt: skip
    result = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    tl.store(
        out + token_row * out_token_stride + head[:, None] * out_head_stride + dim[None, :],
        result.to(out.dtype.element_ty),
        mask=row_valid,
    )
