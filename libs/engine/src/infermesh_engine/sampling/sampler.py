"""Chooses the next token of each sequence in a batch from the logits that a runner returned."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from infermesh_engine.runners.runner import Logits
from infermesh_engine.sampling import full_row, masked_rows
from infermesh_engine.sampling.broken import BrokenLogitsError, broken_rows
from infermesh_engine.sampling.inversion import invert, total_weights
from infermesh_engine.sampling.sampler_state import SamplerState, draw_params


@dataclass(frozen=True, slots=True)
class SampledToken:
    """A chosen token."""

    token_id: int
    logprob: float | None
    """Natural log of its probability at temperature 1, before any change to the logits; None unless asked for."""
    top: tuple[tuple[int, float], ...]
    """The model's most probable tokens and their log probabilities, most probable first."""


def sample(logits: Logits, states: Sequence[SamplerState]) -> list[SampledToken | Exception]:
    """The next token of each sequence, where `states[i]` belongs to row i. Does not advance the states.

    If a sequence's own bias, penalties or grammar raise, it gets that exception in place of a token; if its logits are
    not finite, BrokenLogitsError.
    """
    token_ids: list[int | Exception] = logits.top_ids[:, 0].tolist()
    broken = broken_rows(logits)
    drawn: list[int] = []
    masked: list[int] = []
    whole: list[int] = []
    for i, state in enumerate(states):
        if i in broken:
            token_ids[i] = BrokenLogitsError()
        elif state.needs_row:
            (masked if state.only_masked else whole).append(i)
        elif not state.greedy:
            drawn.append(i)
    if masked:
        for i, outcome in masked_rows.choose(logits, masked, states).items():
            token_ids[i] = outcome
    for i in whole:
        token_ids[i] = _try_adjusted(logits.row(i), states[i])
    if drawn:
        for i, token_id in zip(drawn, _draw(logits, drawn, states), strict=True):
            token_ids[i] = token_id
    return [
        token_id if isinstance(token_id, Exception) else describe_token(logits, i, token_id, state.logprobs)
        for i, (token_id, state) in enumerate(zip(token_ids, states, strict=True))
    ]


def _draw(logits: Logits, rows: list[int], states: Sequence[SamplerState]) -> list[int]:
    """The tokens of `rows`, whose logits are unchanged; reads a whole row only where the candidates do not decide."""
    index = np.array(rows)
    inverse_temperatures, draws = draw_params([states[i] for i in rows])
    candidates = logits.top_logits[index]
    vocab_size = states[rows[0]].vocab_size
    weights = full_row.relative_weights(candidates, inverse_temperatures)
    excess = logits.scaled_logsumexp[index] - candidates[:, 0] * inverse_temperatures
    totals = total_weights(weights, excess, vocab_size)
    columns, decided = invert(weights, totals, draws, complete=candidates.shape[1] >= vocab_size)
    token_ids: list[int] = logits.top_ids[index, columns].tolist()
    if not decided.all():
        for j in np.flatnonzero(~decided).tolist():
            row, state = rows[j], states[rows[j]]
            token_ids[j] = full_row.choose(
                logits.row(row),
                state.inverse_temperature,
                draw_params([state])[1],
                total=float(totals[j]),
                beyond=float(candidates[j, -1]),
            )
    return token_ids


def _try_adjusted(row: NDArray[np.float32], state: SamplerState) -> int | Exception:
    try:
        return _choose_adjusted(row, state)
    except Exception as error:  # an error of one request's grammar must not end the others
        return error


def _choose_adjusted(row: NDArray[np.float32], state: SamplerState) -> int:
    adjusted = state.adjusted(row)
    if state.greedy:
        return int(adjusted.argmax())
    return full_row.choose(adjusted, state.inverse_temperature, draw_params([state])[1])


def describe_token(logits: Logits, row: int, token_id: int, alternatives: int | None) -> SampledToken:
    """The token, with its log probability and those of the `alternatives` most probable tokens unless that is None."""
    if alternatives is None:
        return SampledToken(token_id, None, ())
    ids: list[int] = logits.top_ids[row].tolist()
    logsumexp = float(logits.logsumexp[row])
    values: list[float] = logits.top_logits[row].tolist()
    logit = values[ids.index(token_id)] if token_id in ids else float(logits.row(row)[token_id])
    top = tuple((i, value - logsumexp) for i, value in zip(ids[:alternatives], values, strict=False))
    return SampledToken(token_id, logit - logsumexp, top)
