"""Asks a device for the log probabilities of given tokens: it chooses them, because a bias lets it choose no other."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from infermesh_engine.runners.sampling_runner import LogitEdits, SamplingBatch

_CERTAIN = np.float32(1e30)
"""A bias that no logit outweighs. Log probabilities are those before it."""


def add_forced_rows(batch: SamplingBatch, rows: range, token_ids: Sequence[int], top: int) -> SamplingBatch:
    """The batch with `token_ids` as the tokens of `rows`, which it does not use yet; with `top` alternatives each."""
    alternatives = np.full(batch.rows, -1, dtype=np.int32) if batch.alternatives is None else batch.alternatives.copy()
    alternatives[rows.start : rows.stop] = top
    edits = batch.edits or _no_edits(batch.rows)
    edits = replace(
        edits,
        bias_rows=np.concatenate([edits.bias_rows, np.arange(rows.start, rows.stop, dtype=np.int32)]),
        bias_ids=np.concatenate([edits.bias_ids, np.array(token_ids, dtype=np.int32)]),
        bias=np.concatenate([edits.bias, np.full(len(rows), _CERTAIN)]),
    )
    return replace(batch, alternatives=alternatives, edits=edits)


def _no_edits(count: int) -> LogitEdits:
    ids, numbers = np.empty(0, dtype=np.int32), np.empty(0, dtype=np.float32)
    penalties = np.zeros((count, 3), dtype=np.float32)
    penalties[:, 0] = 1
    return LogitEdits(
        bias_rows=ids,
        bias_ids=ids,
        bias=numbers,
        seen_rows=ids,
        seen_ids=ids,
        seen_counts=numbers,
        penalties=penalties,
        mask_rows=ids,
        masks=np.empty((0, 0), dtype=np.uint8),
        banned_rows=ids,
        banned_ids=ids,
    )
