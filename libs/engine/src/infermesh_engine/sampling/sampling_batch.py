"""Translates sampler states into the SamplingBatch for a device that samples, and reads the tokens that come back.

The lists of penalised tokens are sent anew in each step. So the state stays on the host, where a continuation, a
preemption or a dropped token needs no special care.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from infermesh_engine.runners.sampling_runner import NO_TOKEN, DrawnRows, LogitEdits, SampledRows, SamplingBatch
from infermesh_engine.sampling.broken import BrokenLogitsError
from infermesh_engine.sampling.sampler import SampledToken
from infermesh_engine.sampling.sampler_state import SamplerState

RowState = tuple[int, SamplerState]
"""A row of a batch, and the state of its sequence."""


def build(rows: Sequence[RowState], count: int) -> tuple[SamplingBatch, dict[int, Exception]]:
    """How to sample `rows` of a batch of `count` rows; and, by row, the error that a request's grammar raised."""
    drawn = [row for row in rows if not row[1].greedy]
    edited = [row for row in rows if row[1].needs_row]
    edits, errors = _edits(edited, count) if edited else (None, {})
    batch = SamplingBatch(
        rows=count,
        draws=_draws(drawn) if drawn else None,
        edits=edits,
        alternatives=_alternatives(rows, count) if any(state.logprobs is not None for _, state in rows) else None,
    )
    return batch, errors


def read(tokens: SampledRows, rows: Iterable[RowState]) -> list[SampledToken | Exception]:
    """The tokens of `rows`, with the log probabilities that each asked for; BrokenLogitsError where there is none."""
    token_ids = tokens.token_ids.tolist()
    if tokens.logprobs is None or tokens.top_ids is None or tokens.top_logprobs is None:
        return [_plain(token_ids[row]) for row, _ in rows]
    logprobs = tokens.logprobs.tolist()
    sampled: list[SampledToken | Exception] = []
    for row, state in rows:
        if state.logprobs is None or token_ids[row] == NO_TOKEN:
            sampled.append(_plain(token_ids[row]))
            continue
        ids = tokens.top_ids[row, : state.logprobs].tolist()
        top = tuple(zip(ids, tokens.top_logprobs[row].tolist(), strict=False))
        sampled.append(SampledToken(token_ids[row], logprobs[row], top))
    return sampled


def _plain(token_id: int) -> SampledToken | Exception:
    return BrokenLogitsError() if token_id == NO_TOKEN else SampledToken(token_id, None, ())


def _draws(rows: Sequence[RowState]) -> DrawnRows:
    columns = np.array([(row, *state.filters, state.uniform) for row, state in rows]).T
    return DrawnRows(
        rows=columns[0].astype(np.int64),
        inverse_temperatures=columns[1],
        top_k=columns[2].astype(np.int64),
        top_p=columns[3],
        min_p=columns[4],
        uniforms=columns[5],
    )


def _alternatives(rows: Sequence[RowState], count: int) -> NDArray[np.int32]:
    alternatives = np.full(count, -1, dtype=np.int32)
    for row, state in rows:
        if state.logprobs is not None:
            alternatives[row] = state.logprobs
    return alternatives


def _edits(rows: Sequence[RowState], count: int) -> tuple[LogitEdits, dict[int, Exception]]:
    penalties = np.zeros((count, 3), dtype=np.float32)
    penalties[:, 0] = 1
    bias, seen, banned = _Pairs(), _Pairs(), _Pairs()
    masks: dict[int, NDArray[np.uint8]] = {}
    errors: dict[int, Exception] = {}
    for row, state in rows:
        try:
            mask = state.mask
        except Exception as error:  # an error of one request's grammar must not end the others
            errors[row] = error
            continue
        if mask is not None:
            masks[row] = mask
        else:
            banned.add(row, state.banned)
        bias.add(row, *state.adjustments.bias)
        seen.add(row, *state.adjustments.seen)
        penalties[row] = state.adjustments.penalties
    edits = LogitEdits(
        bias_rows=bias.rows,
        bias_ids=bias.ids,
        bias=bias.values,
        seen_rows=seen.rows,
        seen_ids=seen.ids,
        seen_counts=seen.values,
        penalties=penalties,
        mask_rows=np.array(list(masks), dtype=np.int32),
        masks=np.stack(list(masks.values())) if masks else np.empty((0, 0), dtype=np.uint8),
        banned_rows=banned.rows,
        banned_ids=banned.ids,
    )
    return edits, errors


class _Pairs:
    """Lists of rows, token ids and values, joined row by row."""

    def __init__(self) -> None:
        self._rows: list[int] = []
        self._ids: list[NDArray[np.int64]] = []
        self._values: list[NDArray[np.float32]] = []

    def add(self, row: int, ids: NDArray[np.int64], values: NDArray[np.float32] | None = None) -> None:
        if len(ids):
            self._rows.append(row)
            self._ids.append(ids)
            if values is not None:
                self._values.append(values)

    @property
    def rows(self) -> NDArray[np.int32]:
        return np.repeat(np.array(self._rows, dtype=np.int32), [len(ids) for ids in self._ids])

    @property
    def ids(self) -> NDArray[np.int32]:
        return np.concatenate([np.empty(0, dtype=np.int64), *self._ids]).astype(np.int32)

    @property
    def values(self) -> NDArray[np.float32]:
        return np.concatenate([np.empty(0, dtype=np.float32), *self._values])
