"""Draws a token from a whole row of logits, when the most probable tokens alone do not decide."""

import numpy as np
from numpy.typing import NDArray

from infermesh_engine.sampling.inversion import DrawParams, invert

_FIRST_REACH = 7.0
"""How far below the largest scaled logit to look first: down to tokens a thousandth as probable."""
_FURTHER = 3.0


def choose(
    row: NDArray[np.float32],
    inverse_temperature: float,
    draws: DrawParams,
    *,
    total: float | None = None,
    beyond: float | None = None,
) -> int:
    """The token that one draw chooses from all of `row` [vocab].

    `total` is the row's sum of weights (see inversion.total_weights); None computes it. `beyond`, if given, is a logit:
    the tokens down to it did not decide, so the search goes further down at once. Only as many tokens are ranked as the
    draw needs: those that top_k keeps, or those down to a logit that is lowered until they decide. A row without a
    finite maximum (all tokens excluded, or NaN from a broken model) gives its argmax.
    """
    largest = float(row.max())
    if not np.isfinite(largest):
        return int(row.argmax())
    top_k = int(draws.top_k[0])
    if 0 < top_k < len(row):
        return _choose_of_top_k(row, top_k, inverse_temperature, draws)
    totals = np.array([_total(row, largest, inverse_temperature) if total is None else total])
    reach = _FIRST_REACH
    if beyond is not None:
        reach = max(reach, (largest - beyond) * inverse_temperature + _FURTHER)
    chosen = 0
    just_below = np.nextafter(
        np.float32(largest), np.float32(-np.inf)
    )  # among huge logits, the reach rounds to nothing
    for further in (0.0, _FURTHER, 2 * _FURTHER, np.inf):
        complete = further == np.inf
        smallest = min(np.float32(largest - (reach + further) / inverse_temperature), just_below)
        ids, logits = _rank(row, np.flatnonzero(row > smallest))
        weights = relative_weights(logits[None, :], np.array([inverse_temperature]))
        index, decided = invert(weights, totals, draws, complete=complete)
        chosen = int(ids[index[0]])
        if decided[0]:
            break
    return chosen


def _choose_of_top_k(row: NDArray[np.float32], top_k: int, inverse_temperature: float, draws: DrawParams) -> int:
    """The same from the tokens that top_k keeps, which alone decide; tokens at −inf are not among them."""
    smallest = np.partition(row, -top_k)[-top_k]
    ids, logits = _rank(row, np.flatnonzero(row >= smallest if np.isfinite(smallest) else np.isfinite(row)))
    weights = relative_weights(logits[None, :], np.array([inverse_temperature]))
    index, _ = invert(weights, weights.sum(axis=1), draws, complete=True)
    return int(ids[index[0]])


def _total(row: NDArray[np.float32], largest: float, inverse_temperature: float) -> float:
    """The sum of all weights, in float32: four times as fast, and its error of 1e-7 is no larger than the logits'."""
    weights = row - np.float32(largest)
    weights *= np.float32(inverse_temperature)
    np.exp(weights, out=weights)
    return float(weights.sum())


def relative_weights(logits: NDArray[np.float32], inverse_temperatures: NDArray[np.float64]) -> NDArray[np.float64]:
    """[S, K], probabilities relative to the first of each row, whose logits are in descending order."""
    exact = logits.astype(np.float64)
    exact -= exact[:, :1].copy()
    exact *= inverse_temperatures[:, None]
    return np.exp(exact, out=exact)


def _rank(row: NDArray[np.float32], ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """`ids` and their logits in descending order of logit, ties by smaller id."""
    logits = row[ids] + np.float32(0)  # turns -0.0 into 0.0, so that their bits are equal too
    bits = logits.view(np.int32)
    # flipping the magnitude bits of negative floats makes the bits ascend with the values; the complement descends
    descending = ~np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits)
    keys = (descending.astype(np.int64) << 32) | ids
    keys.sort()
    order = keys & 0xFFFFFFFF
    return order, row[order]
