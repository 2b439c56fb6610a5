"""Chooses a token from sorted weights and a uniform number, by inverting the cumulative distribution.

Each row lists tokens in descending order of probability. `weights` [S, K] float64 are probabilities relative to the
row's most probable token, so the first is 1. The K tokens are either all that have any weight (`complete`) or only the
most probable ones; in the second case some rows cannot be decided. A row that is decided from its first K tokens gets
the same token as from more of them: sums run in the same order and totals are the same numbers.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Float64Array = NDArray[np.float64]

_NEGLIGIBLE_TAIL = 1e-7
_UNLIMITED = 1 << 40


@dataclass(frozen=True, slots=True)
class DrawParams:
    """The uniform numbers and filters of S rows; each array is [S]."""

    uniforms: Float64Array
    """In [0, 1)."""
    top_k: Float64Array
    """0 keeps all tokens."""
    top_p: Float64Array
    """1 keeps all tokens; a share of the probability that top_k keeps."""
    min_p: Float64Array
    """0 keeps all tokens."""


def total_weights(weights: Float64Array, excess: Float64Array, vocab_size: int) -> Float64Array:
    """[S], the sum of each row's weights over the whole vocabulary, from its first K weights and the model's own sum.

    `excess` [S] is scaled_logsumexp − largest scaled logit. The model's sum is a float32, which is coarse at tiny
    temperatures; there the tail is negligible, so the sum of the K weights is more exact.
    """
    known = weights.sum(axis=1)
    tail_at_most = weights[:, -1] * (vocab_size - weights.shape[1])
    totals: Float64Array = np.where(tail_at_most <= _NEGLIGIBLE_TAIL * known, known, np.maximum(np.exp(excess), known))
    return totals


def invert(
    weights: Float64Array,
    totals: Float64Array,
    draws: DrawParams,
    *,
    complete: bool,
    widths: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The column chosen in each row, and whether the row is decided; both [S]. A complete row always is.

    `widths` [S], each at least 1: how many of a row's K columns are tokens; None: all. The others have weight 0.
    top_k, top_p and min_p each keep a prefix of the row. The shortest prefix is renormalised, and its cumulative
    distribution inverted at the uniform number.
    """
    width = np.full(len(weights), weights.shape[1]) if widths is None else widths
    sums = np.cumsum(weights, axis=1)
    kept, ambiguous = _kept(weights, sums, totals, draws, width)
    bounded = kept <= width
    mass = np.where(bounded, _at(sums, kept), totals)
    target = draws.uniforms * mass
    if complete:
        # rounding may make the model's total larger than the sum: the last token must not get the difference
        target = np.where(target >= sums[:, -1], draws.uniforms * sums[:, -1], target)
    index = np.minimum((sums <= target[:, None]).sum(axis=1), np.minimum(kept, width) - 1)
    if complete:
        return index, np.ones(len(index), dtype=np.bool_)
    unfiltered = (draws.top_k == 0) & (draws.top_p >= 1) & (draws.min_p <= 0)
    return index, ~ambiguous & (bounded | (unfiltered & (target < sums[:, -1])))


def _kept(
    weights: Float64Array, sums: Float64Array, totals: Float64Array, draws: DrawParams, width: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """How many tokens the filters keep, at least 1 (more than K if K do not tell), and which rows K cannot decide."""
    by_top_k = np.where(draws.top_k > 0, draws.top_k, _UNLIMITED).astype(np.int64)
    mass = np.where(draws.top_k > 0, _at(sums, by_top_k), totals)
    least = np.where(draws.top_p < 1, draws.top_p * mass, np.inf)
    by_top_p = (sums < least[:, None]).sum(axis=1) + 1
    by_min_p = (weights >= draws.min_p[:, None]).sum(axis=1)
    by_min_p[by_min_p >= width] = _UNLIMITED
    by_top_p[by_top_p > width] = _UNLIMITED
    kept = np.maximum(np.minimum(np.minimum(by_top_k, by_top_p), by_min_p), 1)
    return kept, (by_top_k > width) & (draws.top_k > 0) & (draws.top_p < 1)


def _at(sums: Float64Array, counts: NDArray[np.int64]) -> Float64Array:
    """[S], the sum of each row's first `counts` tokens, or of all K if there are fewer."""
    columns = np.minimum(counts, sums.shape[1]) - 1
    mass: Float64Array = sums[np.arange(len(sums)), columns]
    return mass
