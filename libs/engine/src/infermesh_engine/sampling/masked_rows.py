"""Chooses tokens of which only some are allowed, from the most probable ones and their masks where those decide.

All allowed tokens of the row give the same one. They take ten times as long, so they are left for the rows that are not
decided otherwise: no candidate is allowed, or the draw depends on how much probability lies beyond the candidates.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from infermesh_engine.runners.runner import Logits
from infermesh_engine.sampling import full_row
from infermesh_engine.sampling.inversion import DrawParams, Float64Array, invert
from infermesh_engine.sampling.sampler_state import SamplerState, draw_params

_SLACK = 1e-5
"""Relative error that sums of float32 may have: a draw so close to another token is not decided here."""
_LOGSUMEXP_ERROR = 1e-6
"""The same for the model's own sum, times its logarithm."""
_LARGEST_EXCESS = 300.0
"""The logarithm of the largest weight that is computed; larger ones could overflow."""
_FEW = 0.25
"""The share of the vocabulary up to which allowed tokens are gathered; more are left in a row of the others' −inf."""

Bools = NDArray[np.bool_]


def choose(logits: Logits, rows: Sequence[int], states: Sequence[SamplerState]) -> dict[int, int | Exception]:
    """The tokens of `rows`, by row; or the exception that a row's mask raises.

    The masks of these rows' states are all that changes their logits.
    """
    chosen: dict[int, int | Exception] = {}
    masks: list[NDArray[np.uint8]] = []
    found: list[int] = []
    for row in rows:  # threads would wait for each other: copies of one grammar share llguidance's lexer
        try:
            mask = states[row].mask
        except Exception as error:  # an error of one request's grammar must not end the others
            chosen[row] = error
            continue
        if mask is not None:
            masks.append(mask)
            found.append(row)
    if found:
        chosen |= _decide(logits, np.array(found), [states[row] for row in found], np.stack(masks))
    for row, mask in zip(found, masks, strict=True):
        if row not in chosen:
            chosen[row] = _choose_allowed(logits.row(row), mask, states[row])
    return chosen


def _choose_allowed(row: NDArray[np.float32], mask: NDArray[np.uint8], state: SamplerState) -> int:
    """The token that all allowed ones of a row give."""
    allowed = np.unpackbits(mask, count=len(row), bitorder="little").view(np.bool_)
    ids = np.flatnonzero(allowed) if np.count_nonzero(allowed) <= _FEW * len(row) else None
    values = np.where(allowed, row, np.float32(-np.inf)) if ids is None else row[ids]
    if not len(values):
        return 0
    if state.greedy:
        index = int(values.argmax())
    else:
        scales, draws = draw_params([state])
        index = full_row.choose(values, float(scales[0]), draws)
    return index if ids is None else int(ids[index])


def _decide(
    logits: Logits, rows: NDArray[np.int64], states: Sequence[SamplerState], masks: NDArray[np.uint8]
) -> dict[int, int | Exception]:
    ids, values = logits.top_ids[rows], logits.top_logits[rows]
    each = np.arange(len(rows))
    allowed = (np.take_along_axis(masks, ids >> 3, axis=1) >> (ids & 7).astype(np.uint8) & 1).view(np.bool_)
    allowed &= np.isfinite(values)
    columns = allowed.argmax(axis=1)
    decided = allowed[each, columns]
    drawn = np.flatnonzero(decided & ~np.array([state.greedy for state in states]))
    if len(drawn):
        remaining = np.bitwise_count(masks[drawn]).sum(axis=1) - allowed[drawn].sum(axis=1)
        sums = logits.scaled_logsumexp[rows[drawn]]
        columns[drawn], decided[drawn] = _draw(
            values[drawn], allowed[drawn], remaining, sums, [states[i] for i in drawn.tolist()]
        )
    tokens = ids[each, columns]
    return {int(rows[i]): int(tokens[i]) for i in np.flatnonzero(decided).tolist()}


def _draw(
    values: NDArray[np.float32],
    allowed: Bools,
    remaining: NDArray[np.int64],
    scaled_logsumexp: NDArray[np.float32],
    states: Sequence[SamplerState],
) -> tuple[NDArray[np.int64], Bools]:
    """The columns drawn, and whether they are decided: both [S]. `remaining` [S]: allowed tokens beyond the candidates.

    The sum of the allowed tokens' weights is not known, but it has bounds; nor is that of the tokens which top_k keeps,
    where some are beyond the candidates. A draw with either bound gives a token, and so does every sum between them,
    since each filter keeps more and each draw goes further when the sum is larger.
    """
    scales, draws = draw_params(states)
    widths = allowed.sum(axis=1)
    order = np.argsort(~allowed, axis=1, kind="stable")
    excluded = np.arange(values.shape[1]) >= widths[:, None]
    sorted_values = np.take_along_axis(values, order, axis=1)
    weights = full_row.relative_weights(np.where(excluded, np.float32(-np.inf), sorted_values), scales)
    largest = sorted_values[:, 0] * scales
    least = weights.sum(axis=1)
    most_kept = np.where(draws.top_k > 0, draws.top_k, np.inf)
    beyond = np.minimum(remaining, np.maximum(most_kept - widths, 0))
    most = np.minimum(
        _upper_bound(values, allowed, scales, largest, scaled_logsumexp),
        least + beyond * np.exp(np.minimum(values[:, -1] * scales - largest, 0)),
    )
    fewest = np.where((beyond == 0) | (draws.top_k > 0), np.minimum(most_kept, widths), 0)
    low, high = 1 - _SLACK, 1 + _SLACK
    both = DrawParams(
        uniforms=np.concatenate([draws.uniforms * low, draws.uniforms * high]),
        top_k=np.concatenate([fewest, np.where(beyond == 0, fewest, 0)]),
        top_p=np.concatenate([np.where(draws.top_p < 1, draws.top_p * low, 1), draws.top_p * high]),
        min_p=np.tile(draws.min_p, 2),
    )
    totals = np.concatenate([least * low, np.maximum(most, least) * high])
    columns, decided = invert(np.tile(weights, (2, 1)), totals, both, complete=False, widths=np.tile(widths, 2))
    lower, upper = np.split(columns, 2)
    certain = decided[: len(lower)] & decided[len(lower) :] & (lower == upper)
    return order[np.arange(len(lower)), lower], certain


def _upper_bound(
    values: NDArray[np.float32],
    allowed: Bools,
    scales: Float64Array,
    largest: Float64Array,
    scaled_logsumexp: NDArray[np.float32],
) -> Float64Array:
    """[S], at least the sum of all allowed tokens' weights: the whole sum without the candidates that are excluded.

    Infinite where the whole sum is too large to be computed.
    """
    excess = scaled_logsumexp - largest
    whole = np.where(excess > _LARGEST_EXCESS, np.inf, np.exp(np.minimum(excess, _LARGEST_EXCESS)))
    beside = np.minimum(values * scales[:, None] - largest[:, None], _LARGEST_EXCESS)
    known = np.where(allowed, 0.0, np.exp(beside)).sum(axis=1)
    error = _SLACK + _LOGSUMEXP_ERROR * np.abs(scaled_logsumexp)
    bound: Float64Array = whole * (1 + error) - known * (1 - _SLACK)
    return bound
