"""Triton kernel that draws a token from a row's most probable ones, or from all of them without sorting.

Only triton_draw imports this module, when Triton is installed. Tokens rank by logit, and equal logits by smaller id. A
place in that order is found by a search over the bits of float32: each pass over the row sums what lies above eight
thresholds, so eleven passes find any float. The sums count tokens, or add up weights: probabilities relative to the
largest one.
"""

# Triton has no types and may be absent:
# mypy: disable-error-code="import-untyped, import-not-found, untyped-decorator"
# ruff: noqa: N803, PLR0917 - Triton code has compile-time arguments in capitals and flat argument lists

import triton
import triton.language as tl

_BELOW_ALL = tl.constexpr(-(1 << 31))
_ABOVE_ALL = tl.constexpr(1 << 31)
_THRESHOLDS = tl.constexpr(8)


@triton.jit
def _load(
    row: tl.tensor, begin: tl.tensor, vocab: tl.tensor, largest: tl.tensor, scale: tl.tensor, BLOCK: tl.constexpr
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:
    """Ids of a block of the row, whether each is a token, keys (int64, ascending with the logits) and weights."""
    ids = begin + tl.arange(0, BLOCK)
    valid = ids < vocab
    logits = tl.load(row + ids, mask=valid, other=float("-inf"))
    bits = tl.where(logits == 0.0, 0.0, logits).to(tl.int32, bitcast=True)  # -0.0 becomes 0.0
    keys = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).to(tl.int64)
    weights = tl.where(valid, tl.exp((logits - largest) * scale), 0.0)
    return ids, valid, keys, weights


@triton.jit
def _search(
    row: tl.tensor, vocab: tl.tensor, largest: tl.tensor, scale: tl.tensor, goal: tl.tensor,
    STRICT: tl.constexpr, COUNT: tl.constexpr, SUM: tl.constexpr, BLOCK: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """The largest key at and above which the sum exceeds `goal` (or reaches it, if not STRICT); else _BELOW_ALL."""
    low = tl.full((), _BELOW_ALL, tl.int64)
    high = tl.full((), _ABOVE_ALL, tl.int64)
    steps = tl.arange(0, _THRESHOLDS).to(tl.int64) + 1
    while high - low > 1:
        span = high - low
        thresholds = low + span * steps // (_THRESHOLDS + 1)
        sums = tl.zeros((_THRESHOLDS,), SUM)
        for begin in range(0, vocab, BLOCK):
            _ids, valid, keys, weights = _load(row, begin, vocab, largest, scale, BLOCK)
            if COUNT:
                weights = tl.where(valid, 1.0, 0.0)
            above = keys[:, None] >= thresholds[None, :]
            sums += tl.sum(tl.where(above, weights[:, None], 0.0), 0).to(SUM)
        reached = sums > goal if STRICT else sums >= goal
        passed = tl.sum(reached.to(tl.int64), 0)
        high = low + span * (passed + 1) // (_THRESHOLDS + 1)
        low += span * passed // (_THRESHOLDS + 1)
    return low


@triton.jit
def _at(
    row: tl.tensor, vocab: tl.tensor, largest: tl.tensor, scale: tl.tensor, key: tl.tensor,
    SUM: tl.constexpr, BLOCK: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor, tl.tensor]:  # fmt: skip
    """Number and weight of the tokens above a key, number of tokens with this key, and weight of one of them."""
    count = tl.zeros((), tl.int64)
    mass = tl.zeros((), SUM)
    equals = tl.zeros((), tl.int64)
    weight = tl.zeros((), tl.float32)
    for begin in range(0, vocab, BLOCK):
        _ids, valid, keys, weights = _load(row, begin, vocab, largest, scale, BLOCK)
        above = valid & (keys > key)
        equal = valid & (keys == key)
        count += tl.sum(above.to(tl.int64), 0)
        mass += tl.sum(tl.where(above, weights, 0.0), 0).to(SUM)
        equals += tl.sum(equal.to(tl.int64), 0)
        weight = tl.maximum(weight, tl.max(tl.where(equal, weights, 0.0), 0))
    return count, mass, equals, tl.maximum(weight, 1e-37).to(SUM)


@triton.jit
def _mass_of(
    row: tl.tensor, vocab: tl.tensor, largest: tl.tensor, scale: tl.tensor, kept: tl.tensor,
    SUM: tl.constexpr, BLOCK: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """Weight of the first `kept` tokens."""
    key = _search(row, vocab, largest, scale, kept.to(SUM), False, True, SUM, BLOCK)
    count, mass, _equals, weight = _at(row, vocab, largest, scale, key, SUM, BLOCK)
    return mass + (kept - count).to(SUM) * weight


@triton.jit
def _place_of(
    row: tl.tensor, vocab: tl.tensor, largest: tl.tensor, scale: tl.tensor, goal: tl.tensor,
    STRICT: tl.constexpr, SUM: tl.constexpr, BLOCK: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """The first place whose tokens up to and including it weigh more than `goal` (or as much, if not STRICT)."""
    key = _search(row, vocab, largest, scale, goal, STRICT, False, SUM, BLOCK)
    count, mass, equals, weight = _at(row, vocab, largest, scale, key, SUM, BLOCK)
    ratio = tl.maximum((goal - mass) / weight, 0.0)
    among = tl.floor(ratio) if STRICT else tl.ceil(ratio) - 1.0
    # in float32 the quotient may exceed int64; the number of equal tokens never does
    among = tl.minimum(among, equals.to(SUM) - 1.0)
    return count + tl.maximum(among, 0.0).to(tl.int64)


@triton.jit
def _token_at(
    row: tl.tensor, vocab: tl.tensor, largest: tl.tensor, scale: tl.tensor, place: tl.tensor,
    SUM: tl.constexpr, BLOCK: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """The token at a place."""
    key = _search(row, vocab, largest, scale, (place + 1).to(SUM), False, True, SUM, BLOCK)
    before, _mass, _equals, _weight = _at(row, vocab, largest, scale, key, SUM, BLOCK)
    token = tl.zeros((), tl.int64)
    for begin in range(0, vocab, BLOCK):
        ids, valid, keys, _weights = _load(row, begin, vocab, largest, scale, BLOCK)
        equal = (valid & (keys == key)).to(tl.int64)
        is_it = (equal > 0) & (before + tl.cumsum(equal, 0) == place + 1)
        token += tl.sum(tl.where(is_it, ids, 0).to(tl.int64), 0)
        before += tl.sum(equal, 0)
    return token


@triton.jit
def _draw_from_all(
    row: tl.tensor, vocab: tl.tensor, largest: tl.tensor, scale: tl.tensor, total: tl.tensor, top_k: tl.tensor,
    top_p: tl.tensor, min_p: tl.tensor, uniform: tl.tensor,
    SUM: tl.constexpr, BLOCK: tl.constexpr,
) -> tl.tensor:  # fmt: skip
    """The token that a draw chooses from all of a row."""
    mass = total
    kept = tl.zeros((), tl.int64) + vocab
    if top_k > 0:
        kept = tl.minimum(kept, top_k)
        mass = _mass_of(row, vocab, largest, scale, kept, SUM, BLOCK)
    if top_p < 1.0:
        limit = _place_of(row, vocab, largest, scale, top_p * mass, False, SUM, BLOCK)
        kept = tl.minimum(kept, limit + 1)
    if min_p > 0.0:
        count = tl.zeros((), tl.int64)
        for begin in range(0, vocab, BLOCK):
            _ids, valid, _keys, weights = _load(row, begin, vocab, largest, scale, BLOCK)
            count += tl.sum((valid & (weights.to(SUM) >= min_p)).to(tl.int64), 0)
        kept = tl.minimum(kept, tl.maximum(count, 1))
    if kept < vocab:
        mass = _mass_of(row, vocab, largest, scale, kept, SUM, BLOCK)
    place = _place_of(row, vocab, largest, scale, uniform * mass, True, SUM, BLOCK)
    return _token_at(row, vocab, largest, scale, tl.minimum(place, kept - 1), SUM, BLOCK)


@triton.jit
def _total(
    row: tl.tensor, vocab: tl.tensor, largest: tl.tensor, scale: tl.tensor, SUM: tl.constexpr, BLOCK: tl.constexpr
) -> tl.tensor:
    """Weight of all tokens."""
    total = tl.zeros((), SUM)
    for begin in range(0, vocab, BLOCK):
        _ids, _valid, _keys, weights = _load(row, begin, vocab, largest, scale, BLOCK)
        total += tl.sum(weights, 0).to(SUM)
    return total


@triton.jit
def _prefix(sums: tl.tensor, count: tl.tensor, K: tl.constexpr) -> tl.tensor:
    """Weight of the first `count` tokens, or of all K if there are fewer."""
    return tl.sum(tl.where(tl.arange(0, K) == tl.minimum(count, K) - 1, sums, 0.0), 0)


@triton.jit
def _invert(
    weights: tl.tensor, total: tl.tensor, top_k: tl.tensor, top_p: tl.tensor, min_p: tl.tensor, uniform: tl.tensor,
    K: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:  # fmt: skip
    """As inversion.invert, for one row's first K weights: the column, and whether that choice is certain."""
    sums = tl.cumsum(weights, 0)
    unlimited = tl.full((), 1 << 40, tl.int64)
    by_top_k = tl.where(top_k > 0, top_k, unlimited)
    mass = tl.where(top_k > 0, _prefix(sums, by_top_k, K), total)
    by_top_p = tl.sum((sums < top_p * mass).to(tl.int64), 0) + 1
    by_top_p = tl.where((top_p < 1.0) & (by_top_p <= K), by_top_p, unlimited)
    by_min_p = tl.sum((weights >= min_p).to(tl.int64), 0)
    by_min_p = tl.where(by_min_p == K, unlimited, by_min_p)
    kept = tl.maximum(tl.minimum(tl.minimum(by_top_k, by_top_p), by_min_p), 1)
    bounded = kept <= K
    target = uniform * tl.where(bounded, _prefix(sums, kept, K), total)
    column = tl.minimum(tl.sum((sums <= target).to(tl.int64), 0), tl.minimum(kept, K) - 1)
    ambiguous = (top_k > K) & (top_p < 1.0)
    unfiltered = (top_k == 0) & (top_p >= 1.0) & (min_p <= 0.0)
    return column, (ambiguous == 0) & (bounded | (unfiltered & (target < _prefix(sums, unlimited, K))))


@triton.jit(do_not_specialize=["rows", "vocab"])
def draw_kernel(
    logits: tl.tensor, top_keys: tl.tensor, floats: tl.tensor, top_ks: tl.tensor, tokens: tl.tensor, rows: tl.tensor,
    vocab: tl.tensor,
    K: tl.constexpr, SUM: tl.constexpr, BLOCK: tl.constexpr,
) -> None:  # fmt: skip
    """Draws a token for each row of logits [rows, vocab], one program per row: from K < vocab tokens if they decide.

    `top_keys` [rows, K] are the ranking.keys of the first K tokens; `floats` is DrawTensors.floats.
    """
    at = tl.program_id(0)
    row = logits + at.to(tl.int64) * vocab
    inverse_temperature = tl.load(floats + at)
    top_p = tl.load(floats + rows + at)
    min_p = tl.load(floats + 2 * rows + at)
    uniform = tl.load(floats + 3 * rows + at)
    top_k = tl.load(top_ks + at)
    scale = inverse_temperature.to(tl.float32)
    keys = tl.load(top_keys + at * K + tl.arange(0, K))
    ascending = (keys >> 32).to(tl.int32)
    values = (ascending ^ ((ascending >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)
    largest = tl.max(values, 0)
    weights = tl.exp((values.to(SUM) - largest.to(SUM)) * inverse_temperature)
    total = tl.sum(weights, 0)
    if (top_k == 0) | (top_k > K):
        total = _total(row, vocab, largest, scale, SUM, BLOCK)
    column, decided = _invert(weights, total, top_k, top_p, min_p, uniform, K)
    token = 0x7FFFFFFF - (tl.sum(tl.where(tl.arange(0, K) == column, keys, 0), 0) & 0x7FFFFFFF)
    if decided == 0:
        token = _draw_from_all(row, vocab, largest, scale, total, top_k, top_p, min_p, uniform, SUM, BLOCK)
    tl.store(tokens + at, token)
