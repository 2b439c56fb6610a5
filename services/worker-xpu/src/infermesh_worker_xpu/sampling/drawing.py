"""Draws random tokens on a device: from a row's most probable ones, or from the whole row if those are not enough."""

from collections.abc import Callable

import torch
from torch import Tensor

from infermesh_engine.runners.runner import CANDIDATES
from infermesh_worker_xpu.sampling import ranking
from infermesh_worker_xpu.sampling.inversion import DrawNumbers, invert, relative_weights, total_weights
from infermesh_worker_xpu.sampling.sampling_tensors import DrawTensors

Draw = Callable[[Tensor, DrawTensors], Tensor]
"""Draws token ids [D] int64 from float32 logits [D, V], one row for each draw of the batch."""


def draw(logits: Tensor, draws: DrawTensors) -> Tensor:
    """`Draw` in plain torch."""
    vocab_size = logits.shape[1]
    largest, most_probable = logits.max(1, keepdim=True)
    count = min(CANDIDATES, vocab_size)
    numbers = _numbers(draws)
    ids, candidates = ranking.top(logits, count)
    weights = relative_weights(candidates, largest, numbers)
    is_open = count < vocab_size and len(draws.open_rows) > 0
    # where top_k decides, nothing needs the sum over all tokens
    totals = total_weights(logits, largest, numbers) if is_open else weights.sum(1)
    columns, decided = invert(weights, totals, numbers, complete=count == vocab_size)
    chosen = ids.gather(1, columns[:, None])[:, 0]
    if is_open:
        # Which rows are undecided is known on the accelerator only, and asking would wait for it.
        rows = (~decided).nonzero()[:, 0] if logits.device.type == "cpu" else draws.open_rows
        if len(rows):
            drawn = _draw_by_sorting(logits[rows], totals[rows], numbers.of(rows))
            chosen = chosen.index_copy(0, rows, torch.where(decided[rows], chosen[rows], drawn))
    return unless_broken(chosen, largest, most_probable)


def unless_broken(chosen: Tensor, largest: Tensor, most_probable: Tensor) -> Tensor:
    """`chosen` [D], or the argmax where the maximum is not finite: all tokens excluded, or NaN from a broken model."""
    return torch.where(largest[:, 0].isfinite(), chosen, most_probable[:, 0])


def _draw_by_sorting(logits: Tensor, totals: Tensor, numbers: DrawNumbers) -> Tensor:
    ids, ranked = ranking.top(logits, logits.shape[1])
    columns, _ = invert(relative_weights(ranked, ranked[:, :1], numbers), totals, numbers, complete=True)
    return ids.gather(1, columns[:, None])[:, 0]


def _numbers(draws: DrawTensors) -> DrawNumbers:
    inverse_temperatures, top_p, min_p, uniforms = draws.floats.unbind()
    return DrawNumbers(inverse_temperatures, draws.top_k, top_p, min_p, uniforms)
