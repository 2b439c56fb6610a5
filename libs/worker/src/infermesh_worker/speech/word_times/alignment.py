"""Finds when each token was said, from what the decoder's attention heads look at: dynamic time warping."""

import numpy as np

from infermesh_runtime.tensors import Array

_MEDIAN = 7
"""Frames over which attention is smoothed."""


def token_frames(scores: Array, frames: int) -> Array:
    """The frame of the encoder at which each token begins: INT64 [tokens], never falling.

    `scores`: what the alignment heads look at before the softmax, FP32 [heads, tokens, frames of the encoder], of which
    the first `frames` have sound. As in OpenAI's whisper/timing.py.
    """
    looks = _softmax(scores[:, :, : max(1, frames)])
    deviation = looks.std(axis=1, keepdims=True)
    looks = (looks - looks.mean(axis=1, keepdims=True)) / np.maximum(deviation, 1e-9)
    smooth = np.mean([_smoothed(head) for head in looks], axis=0)
    tokens, times = warp(-smooth)
    return times[np.diff(tokens, prepend=-1) > 0]


def warp(costs: Array) -> tuple[Array, Array]:
    """The cheapest path from the first to the last corner of `costs` [rows, columns]: its rows, and its columns."""
    steps = _steps(costs)
    row, column = costs.shape
    path: list[tuple[int, int]] = []
    while row > 0 and column > 0:
        path.append((row - 1, column - 1))
        step = steps[row, column]
        row -= step != _LEFT
        column -= step != _UP
    rows, columns = np.array(path[::-1]).T
    return rows, columns


_DIAGONAL, _UP, _LEFT = 0, 1, 2


def _steps(costs: Array) -> Array:
    """How the cheapest path reaches each cell; by diagonals, whose cells do not depend on one another."""
    rows, columns = costs.shape
    totals = np.full((rows + 1, columns + 1), np.inf, np.float32)
    totals[0, 0] = 0
    steps = np.zeros((rows + 1, columns + 1), np.int8)
    for diagonal in range(2, rows + columns + 1):
        row = np.arange(max(1, diagonal - columns), min(rows, diagonal - 1) + 1)
        column = diagonal - row
        both, up, left = totals[row - 1, column - 1], totals[row - 1, column], totals[row, column - 1]
        step = np.where((both < up) & (both < left), _DIAGONAL, np.where((up < both) & (up < left), _UP, _LEFT))
        totals[row, column] = costs[row - 1, column - 1] + np.choose(step, (both, up, left))
        steps[row, column] = step
    return steps


def _smoothed(looks: Array) -> Array:
    """The median over some frames, of [tokens, frames]."""
    side = _MEDIAN // 2
    if looks.shape[1] <= side:
        return looks
    padded = np.pad(looks, ((0, 0), (side, side)), mode="reflect")
    middle: Array = np.median(np.lib.stride_tricks.sliding_window_view(padded, _MEDIAN, axis=1), axis=-1)
    return middle


def _softmax(scores: Array) -> Array:
    shares = np.exp(scores - scores.max(axis=-1, keepdims=True))
    divided: Array = shares / shares.sum(axis=-1, keepdims=True)
    return divided
