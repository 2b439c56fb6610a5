"""Owns the choice of a token from sorted weights and a uniform number. Knows no model, no request and no token ids.

Rows are tokens in descending order of probability. `weights` [S, K] float64 are probabilities relative to the row's
most probable token, so the first is 1. The K may be all tokens of the vocabulary that have any weight (`complete`) or
only the most probable ones; then some rows cannot be decided. Whether a row is decided from its first K tokens or from
more of them, the token chosen is the same: sums run in the same order and totals are the same numbers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]

_NEGLIGIBLE_TAIL = 1e-7
_UNLIMITED = 1 << 40


@dataclass(frozen=True, slots=True)
class DrawParams:
    """What S rows are to be decided by; each [S]."""

    uniforms: Float64Array
    """In [0, 1)."""
    top_k: Float64Array
    """0 keeps all tokens."""
    top_p: Float64Array
    """1 keeps all tokens; a share of what top_k keeps."""
    min_p: Float64Array
    """0 keeps all tokens."""


def total_weights(weights: Float64Array, excess: Float64Array, vocab_size: int) -> Float64Array:
    """[S]: the sum of each row's weights over the whole vocabulary, from its first K and the model's own sum.

    `excess` [S] is scaled_logsumexp − largest scaled logit. The model's sum is a float32, coarse where temperatures are
    tiny; there the tail is negligible and the K weights say more.
    """
    known = weights.sum(axis=1)
    tail_at_most = weights[:, -1] * (vocab_size - weights.shape[1])
    totals: Float64Array = np.where(tail_at_most <= _NEGLIGIBLE_TAIL * known, known, np.maximum(np.exp(excess), known))
    return totals


def invert(
    weights: Float64Array, totals: Float64Array, draws: DrawParams, *, complete: bool
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The column chosen in each row, and whether it is decided; both [S]. A complete row always is.

    top_k, top_p and min_p each keep a first part of the row; the shortest one is renormalised and its cumulative
    distribution inverted at the uniform number.
    """
    width = weights.shape[1]
    sums = np.cumsum(weights, axis=1)
    kept, ambiguous = _kept(weights, sums, totals, draws)
    bounded = kept <= width
    mass = np.where(bounded, _at(sums, kept), totals)
    target = draws.uniforms * mass
    if complete:
        # the model's total may be larger than the sum by its rounding: the last token must not inherit that
        target = np.where(target >= sums[:, -1], draws.uniforms * sums[:, -1], target)
    index = np.minimum((sums <= target[:, None]).sum(axis=1), np.minimum(kept, width) - 1)
    if complete:
        return index, np.ones(len(index), dtype=np.bool_)
    unfiltered = (draws.top_k == 0) & (draws.top_p >= 1) & (draws.min_p <= 0)
    return index, ~ambiguous & (bounded | (unfiltered & (target < sums[:, -1])))


def _kept(
    weights: Float64Array, sums: Float64Array, totals: Float64Array, draws: DrawParams
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """How many tokens the filters keep, at least 1, more than K where that is all K can say; and where they cannot."""
    width = weights.shape[1]
    by_top_k = np.where(draws.top_k > 0, draws.top_k, _UNLIMITED).astype(np.int64)
    mass = np.where(draws.top_k > 0, _at(sums, by_top_k), totals)
    least = np.where(draws.top_p < 1, draws.top_p * mass, np.inf)
    by_top_p = (sums < least[:, None]).sum(axis=1) + 1
    by_min_p = (weights >= draws.min_p[:, None]).sum(axis=1)
    by_min_p[by_min_p == width] = _UNLIMITED
    by_top_p[by_top_p > width] = _UNLIMITED
    kept = np.maximum(np.minimum(np.minimum(by_top_k, by_top_p), by_min_p), 1)
    return kept, (by_top_k > width) & (draws.top_k > 0) & (draws.top_p < 1)


def _at(sums: Float64Array, counts: NDArray[np.int64]) -> Float64Array:
    """[S]: the sum of each row's first `counts` tokens, of all K where there are fewer."""
    columns = np.minimum(counts, sums.shape[1]) - 1
    mass: Float64Array = sums[np.arange(len(sums)), columns]
    return mass
