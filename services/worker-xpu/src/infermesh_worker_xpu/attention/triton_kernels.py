"""Triton kernels that write KV and compute decode attention, in chunks that a second kernel combines.

Only triton_attention imports this module, when Triton is installed. The kernels run on any device: no inline assembly,
no vendor intrinsics. Scores are kept in base 2 (scale × log2 e), because devices have an instruction for exp2.
"""

# Triton has no types and may be absent:
# mypy: disable-error-code="import-untyped, import-not-found, untyped-decorator"
# ruff: noqa: N803, PLR0917 - Triton code has compile-time arguments in capitals and flat argument lists

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)


@triton.jit
def _row_offsets(
    table: tl.tensor, positions: tl.tensor, valid: tl.tensor, kv_head: tl.tensor,
    KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, BLOCK_SIZE: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Element offsets [N] of each position's row in a cache; 64 bits, as a cache can hold more than 2^31 elements."""
    block = tl.load(table + positions // BLOCK_SIZE, mask=valid, other=0).to(tl.int64)
    return ((block * BLOCK_SIZE + positions % BLOCK_SIZE) * KV_HEADS + kv_head) * HEAD_DIM


@triton.jit
def _load_kv(
    key_cache: tl.tensor, value_cache: tl.tensor, table: tl.tensor, positions: tl.tensor, valid: tl.tensor,
    kv_head: tl.tensor,
    KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, DIM_PADDED: tl.constexpr, BLOCK_SIZE: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:  # fmt: skip
    """Keys and values [N, DIM_PADDED] of the positions, 0 where `valid` is false."""
    dim = tl.arange(0, DIM_PADDED)
    offsets = _row_offsets(table, positions, valid, kv_head, KV_HEADS, HEAD_DIM, BLOCK_SIZE)[:, None] + dim[None, :]
    loaded = valid[:, None] & (dim < HEAD_DIM)[None, :]
    keys = tl.load(key_cache + offsets, mask=loaded, other=0.0)
    return keys, tl.load(value_cache + offsets, mask=loaded, other=0.0)


@triton.jit
def _scores(
    query: tl.tensor, keys: tl.tensor, scale: tl.tensor, softcap: tl.tensor, SOFTCAP: tl.constexpr
) -> tl.tensor:
    """Scores [M, N] in base 2 of query [M, D] and keys [N, D]."""
    scores = tl.dot(query, tl.trans(keys), input_precision="ieee") * scale
    if SOFTCAP:
        ratio = scores / softcap
        decay = tl.exp2(tl.abs(ratio) * (-2.0 * LOG2_E))
        tanh = (1.0 - decay) / (1.0 + decay)
        scores = tl.where(ratio < 0.0, -tanh, tanh) * softcap
    return scores * LOG2_E


@triton.jit
def _accumulate(
    scores: tl.tensor, values: tl.tensor, peak: tl.tensor, total: tl.tensor, acc: tl.tensor
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """One step of the online softmax. A row that has seen no key yet keeps peak -inf and total 0."""
    new_peak = tl.maximum(peak, tl.max(scores, 1))
    shift = tl.where(new_peak == float("-inf"), 0.0, new_peak)
    weights = tl.exp2(scores - shift[:, None])
    decay = tl.exp2(peak - shift)
    acc = tl.dot(weights.to(values.dtype), values, acc * decay[:, None], input_precision="ieee")
    return new_peak, total * decay + tl.sum(weights, 1), acc


@triton.jit
def _chunk(
    context: tl.tensor, window: tl.tensor, splits: tl.tensor, WINDOWED: tl.constexpr, STEP: tl.constexpr
) -> tuple[tl.tensor, tl.tensor]:
    """Start of a decode row's first chunk, aligned to STEP, and the chunk length in positions, a multiple of STEP."""
    first = context * 0
    if WINDOWED:
        first = tl.maximum(context - window, 0) // STEP * STEP
    length = tl.cdiv(tl.cdiv(context - first, splits), STEP) * STEP
    return first, tl.maximum(length, STEP)


@triton.jit
def write_kv_kernel(
    key: tl.tensor, value: tl.tensor, key_cache: tl.tensor, value_cache: tl.tensor, slots: tl.tensor,
    key_token_stride: tl.tensor, key_head_stride: tl.tensor, value_token_stride: tl.tensor,
    value_head_stride: tl.tensor,
    KV_HEADS: tl.constexpr, HEAD_DIM: tl.constexpr, DIM_PADDED: tl.constexpr, HEADS_TILE: tl.constexpr,
) -> None:  # fmt: skip
    """Grid (T, ⌈kv_heads / HEADS_TILE⌉): copies some heads of one token's key and value to its slot."""
    token = tl.program_id(0).to(tl.int64)
    slot = tl.load(slots + token).to(tl.int64)
    if slot < 0:
        return
    head = tl.program_id(1) * HEADS_TILE + tl.arange(0, HEADS_TILE)[:, None]
    dim = tl.arange(0, DIM_PADDED)[None, :]
    valid = (head < KV_HEADS) & (dim < HEAD_DIM)
    target = (slot * KV_HEADS + head) * HEAD_DIM + dim
    keys = tl.load(key + token * key_token_stride + head * key_head_stride + dim, mask=valid)
    values = tl.load(value + token * value_token_stride + head * value_head_stride + dim, mask=valid)
    tl.store(key_cache + target, keys, mask=valid)
    tl.store(value_cache + target, values, mask=valid)


@triton.jit(do_not_specialize=["table_stride", "window"])
def decode_kernel(
    query: tl.tensor, key_cache: tl.tensor, value_cache: tl.tensor, tables: tl.tensor, context_lens: tl.tensor,
    out: tl.tensor, partials: tl.tensor, partial_lses: tl.tensor, scale: tl.tensor, softcap: tl.tensor,
    window: tl.tensor, table_stride: tl.tensor, query_token_stride: tl.tensor, query_head_stride: tl.tensor,
    out_token_stride: tl.tensor, out_head_stride: tl.tensor,
    KV_HEADS: tl.constexpr, GROUP: tl.constexpr, HEAD_DIM: tl.constexpr, DIM_PADDED: tl.constexpr,
    BLOCK_SIZE: tl.constexpr, ROWS: tl.constexpr, TOKENS: tl.constexpr, STEP: tl.constexpr, SPLIT: tl.constexpr,
    WINDOWED: tl.constexpr, SOFTCAP: tl.constexpr,
) -> None:  # fmt: skip
    """Grid (kv_heads × ⌈GROUP / ROWS⌉, splits, S): one chunk of one sequence's context for ROWS heads of a KV head.

    SPLIT false: the chunk is the whole context and goes to `out`. SPLIT true: each chunk's normalised sum goes to
    `partials` [S, heads, splits, HEAD_DIM] and its log2-sum-exp2 to `partial_lses` [S, heads, splits], both fp32;
    chunks beyond the context write nothing, and combine_kernel reads nothing of them.
    """
    row_tiles: tl.constexpr = (GROUP + ROWS - 1) // ROWS
    kv_head = tl.program_id(0) // row_tiles
    split = tl.program_id(1)
    splits = tl.num_programs(1)
    sequence = tl.program_id(2).to(tl.int64)
    context = tl.load(context_lens + sequence)
    first, length = _chunk(context, window, splits, WINDOWED, STEP)
    begin = first + split * length
    end = tl.minimum(begin + length, context)
    if SPLIT:  # noqa: SIM102 - decided at compile time, and Triton cannot join it with a run-time condition
        if begin >= end:
            return

    row = tl.program_id(0) % row_tiles * ROWS + tl.arange(0, ROWS)
    head = kv_head * GROUP + row
    dim = tl.arange(0, DIM_PADDED)
    row_valid = (row < GROUP)[:, None] & (dim < HEAD_DIM)[None, :]
    query_row = query + sequence * query_token_stride + head[:, None] * query_head_stride + dim[None, :]
    q = tl.load(query_row, mask=row_valid, other=0.0)
    table = tables + sequence * table_stride
    peak = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    acc = tl.zeros([ROWS, DIM_PADDED], tl.float32)
    for start in range(begin, end, TOKENS):
        position = start + tl.arange(0, TOKENS)
        valid = position < end
        if WINDOWED:
            valid = valid & (position >= context - window)
        keys, values = _load_kv(
            key_cache, value_cache, table, position, valid, kv_head, KV_HEADS, HEAD_DIM, DIM_PADDED, BLOCK_SIZE
        )
        scores = tl.where(valid[None, :], _scores(q, keys, scale, softcap, SOFTCAP), float("-inf"))
        peak, total, acc = _accumulate(scores, values, peak, total, acc)

    result = acc / tl.where(total == 0.0, 1.0, total)[:, None]
    if SPLIT:
        chunk = (sequence * (KV_HEADS * GROUP) + head) * splits + split
        tl.store(partials + chunk[:, None] * HEAD_DIM + dim[None, :], result, mask=row_valid)
        tl.store(partial_lses + chunk, peak + tl.log2(total), mask=row < GROUP)
    else:
        out_row = out + sequence * out_token_stride + head[:, None] * out_head_stride + dim[None, :]
        tl.store(out_row, result.to(out.dtype.element_ty), mask=row_valid)


@triton.jit(do_not_specialize=["window"])
def combine_kernel(
    partials: tl.tensor, partial_lses: tl.tensor, context_lens: tl.tensor, out: tl.tensor, window: tl.tensor,
    out_token_stride: tl.tensor, out_head_stride: tl.tensor,
    HEAD_DIM: tl.constexpr, DIM_PADDED: tl.constexpr, SPLITS: tl.constexpr, SLAB: tl.constexpr, STEP: tl.constexpr,
    WINDOWED: tl.constexpr,
) -> None:  # fmt: skip
    """Grid (heads, S): sums one head's chunks, weighted by their log2-sum-exp2. A row without context gets zeros."""
    head = tl.program_id(0)
    sequence = tl.program_id(1).to(tl.int64)
    context = tl.load(context_lens + sequence)
    first, length = _chunk(context, window, SPLITS, WINDOWED, STEP)
    used = tl.cdiv(context - first, length)
    row = (sequence * tl.num_programs(0) + head) * SPLITS
    dim = tl.arange(0, DIM_PADDED)

    split = tl.arange(0, SPLITS)
    lses = tl.load(partial_lses + row + split, mask=split < used, other=float("-inf"))
    peak = tl.max(lses, 0)
    peak = tl.where(peak == float("-inf"), 0.0, peak)
    total = tl.sum(tl.exp2(lses - peak), 0)
    acc = tl.zeros([DIM_PADDED], tl.float32)
    for start in range(0, used, SLAB):
        slab = start + tl.arange(0, SLAB)
        weights = tl.exp2(tl.load(partial_lses + row + slab, mask=slab < used, other=float("-inf")) - peak)
        loaded = (slab < used)[:, None] & (dim < HEAD_DIM)[None, :]
        sums = tl.load(partials + (row + slab)[:, None] * HEAD_DIM + dim[None, :], mask=loaded, other=0.0)
        acc += tl.sum(sums * weights[:, None], 0)
    result = acc / tl.where(total == 0.0, 1.0, total)
    out_row = out + sequence * out_token_stride + head * out_head_stride + dim
    tl.store(out_row, result.to(out.dtype.element_ty), mask=dim < HEAD_DIM)
