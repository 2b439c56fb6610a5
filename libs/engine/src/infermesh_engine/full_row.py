"""Owns looking at a whole row of logits where its most probable tokens do not decide. Knows no request and no batch."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from infermesh_engine.inversion import Draws, invert

_WIDTHS = (1024, 16384)


def choose(row: NDArray[np.float32], inverse_temperature: float, total: float | None, draws: Draws) -> int:
    """The token that one draw chooses from all of `row` [vocab].

    `total` is the row's sum of weights (see inversion.total_weights); None computes it. Only as many tokens are ranked
    as the draw needs. A row without a finite maximum (all excluded, or a broken model's NaN) gives its argmax.
    """
    largest = float(row.max())
    if not np.isfinite(largest):
        return int(row.argmax())
    if total is None:
        # float32 is four times as fast, and its relative error of 1e-7 is that of the logits
        total = float(np.exp((row - np.float32(largest)) * np.float32(inverse_temperature)).sum(dtype=np.float64))
    totals = np.array([total])
    chosen = 0
    for ids, logits, complete in _ranked(row):
        weights = relative_weights(logits[None, :], np.array([inverse_temperature]))
        index, decided = invert(weights, totals, draws, complete=complete)
        chosen = int(ids[index[0]])
        if decided[0]:
            break
    return chosen


def relative_weights(logits: NDArray[np.float32], inverse_temperatures: NDArray[np.float64]) -> NDArray[np.float64]:
    """[S, K] probabilities relative to the first of each row, from its logits in descending order."""
    exact = logits.astype(np.float64)
    exact -= exact[:, :1].copy()
    exact *= inverse_temperatures[:, None]
    return np.exp(exact, out=exact)


def _ranked(row: NDArray[np.float32]) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32], bool]]:
    """Ever more of the row: ids and logits in descending order, and whether all that are possible are there."""
    for width in _WIDTHS:
        if width < len(row):
            smallest = np.partition(row, len(row) - width)[len(row) - width]
            if smallest > -np.inf:
                # all tokens equal to the smallest, or ties at the edge would not go to the smaller id
                yield *_rank(row, np.flatnonzero(row >= smallest)), False
    yield *_rank(row, np.flatnonzero(row > -np.inf)), True


def _rank(row: NDArray[np.float32], ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """`ids` and their logits in descending order of logit, ties by smaller id."""
    logits = row[ids] + np.float32(0)  # makes -0.0 equal to 0.0 in its bits too
    bits = logits.view(np.int32)
    # flipping the magnitude of negative floats makes their bits ascend as they do; the complement descends
    descending = ~np.where(bits < 0, bits ^ np.int32(0x7FFFFFFF), bits)
    keys = (descending.astype(np.int64) << 32) | ids
    keys.sort()
    order = keys & 0xFFFFFFFF
    return order, row[order]
