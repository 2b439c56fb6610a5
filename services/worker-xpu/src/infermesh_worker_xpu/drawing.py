"""Owns drawing tokens at random on a device: from each row's first tokens, from all where those do not decide.

Knows no edits and no request.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from infermesh_engine.runner import CANDIDATES

from . import ranking
from .inversion import Numbers, invert, relative_weights, total_weights
from .sampling_upload import DrawTensors


@dataclass(frozen=True, slots=True)
class OpenRows:
    """D rows of which some are not decided by their first tokens."""

    logits: Tensor
    """[D, V] float32."""
    largest: Tensor
    """[D, 1], each row's largest logit."""
    totals: Tensor
    """[D], the sum of each row's weights."""
    draws: DrawTensors
    chosen: Tensor
    """[D], the tokens of rows that are decided."""
    decided: Tensor
    """[D] bool."""


DrawOpen = Callable[[OpenRows], Tensor]
"""Returns `chosen`, with the rows that are not decided drawn from all their tokens."""


def draw(logits: Tensor, draws: DrawTensors, draw_open: DrawOpen) -> Tensor:
    """Token ids [D] of float32 logits [D, V], the rows of `draws`."""
    vocab_size = logits.shape[1]
    largest, most_probable = logits.max(1, keepdim=True)
    count = min(CANDIDATES, vocab_size)
    numbers = numbers_of(draws)
    ids, candidates = ranking.top(logits, count)
    weights = relative_weights(candidates, largest, numbers)
    is_open = count < vocab_size and len(draws.open_rows) > 0
    # where top_k decides, nobody asks for the sum of all
    totals = total_weights(logits, largest, numbers) if is_open else weights.sum(1)
    columns, decided = invert(weights, totals, numbers, complete=count == vocab_size)
    chosen = ids.gather(1, columns[:, None])[:, 0]
    if is_open:
        chosen = draw_open(OpenRows(logits, largest, totals, draws, chosen, decided))
    # all excluded, or a broken model's NaN: as the engine's sampler has it
    return torch.where(largest[:, 0].isfinite(), chosen, most_probable[:, 0])


def draw_by_sorting(open_rows: OpenRows) -> Tensor:
    """`DrawOpen` in torch. On an accelerator it sorts all rows that may be undecided: which are, it cannot ask."""
    chosen, decided, draws = open_rows.chosen, open_rows.decided, open_rows.draws
    rows = (~decided).nonzero()[:, 0] if decided.device.type == "cpu" else draws.open_rows
    if not len(rows):
        return chosen
    numbers = numbers_of(draws).of(rows)
    ids, ranked = ranking.top(open_rows.logits[rows], open_rows.logits.shape[1])
    weights = relative_weights(ranked, open_rows.largest[rows], numbers)
    columns, _ = invert(weights, open_rows.totals[rows], numbers, complete=True)
    drawn = ids.gather(1, columns[:, None])[:, 0]
    return chosen.index_copy(0, rows, torch.where(decided[rows], chosen[rows], drawn))


def numbers_of(draws: DrawTensors) -> Numbers:
    """The draws' numbers by name."""
    inverse_temperatures, top_p, min_p, uniforms = draws.floats.unbind()
    return Numbers(inverse_temperatures, draws.top_k, top_p, min_p, uniforms)
