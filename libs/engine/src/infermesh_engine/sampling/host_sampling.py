"""Samples a `SamplingBatch` on the host, as the reference for devices that sample themselves.

It chooses the same tokens as `sampler.sample` does from the same logits.
"""

import numpy as np
from numpy.typing import NDArray

from infermesh_engine.runners.runner import CANDIDATES, Logits
from infermesh_engine.runners.sampling_runner import NO_TOKEN, DrawnRows, LogitEdits, SampledRows, SamplingBatch
from infermesh_engine.sampling import full_row, inversion
from infermesh_engine.sampling.broken import broken_rows


def choose(logits: Logits, sampling: SamplingBatch) -> SampledRows:
    """The tokens of a batch's rows."""
    edited = _edited(logits, sampling.edits) if sampling.edits is not None else {}
    token_ids = np.array(logits.top_ids[: sampling.rows, 0], dtype=np.int64)
    for row, values in edited.items():
        token_ids[row] = values.argmax()
    if sampling.draws is not None:
        _draw(logits, sampling.draws, edited, token_ids)
    token_ids[list(broken_rows(logits))] = NO_TOKEN
    if sampling.alternatives is None:
        return SampledRows(token_ids=token_ids)
    chosen = [logits.row(row)[token_id] for row, token_id in enumerate(token_ids.tolist())]
    logsumexp = logits.logsumexp.astype(np.float64)
    return SampledRows(
        token_ids=token_ids,
        logprobs=np.array(chosen) - logsumexp,
        top_ids=logits.top_ids,
        top_logprobs=logits.top_logits - logsumexp[:, None],
    )


def _draw(
    logits: Logits, draws: DrawnRows, edited: dict[int, NDArray[np.float32]], token_ids: NDArray[np.int64]
) -> None:
    for at, row in enumerate(draws.rows.tolist()):
        numbers = inversion.DrawParams(
            uniforms=draws.uniforms[at : at + 1],
            top_k=draws.top_k[at : at + 1].astype(np.float64),
            top_p=draws.top_p[at : at + 1],
            min_p=draws.min_p[at : at + 1],
        )
        scale = float(draws.inverse_temperatures[at])
        if row in edited:
            token_ids[row] = full_row.choose(edited[row], scale, numbers)
            continue
        candidates = logits.top_logits[row : row + 1]
        vocab_size = len(logits.row(row))
        weights = full_row.relative_weights(candidates, np.array([scale]))
        excess = logits.scaled_logsumexp[row : row + 1] - candidates[:, 0] * scale
        totals = inversion.total_weights(weights, excess, vocab_size)
        columns, decided = inversion.invert(weights, totals, numbers, complete=vocab_size <= CANDIDATES)
        token_ids[row] = (
            logits.top_ids[row, columns[0]]
            if decided[0]
            else full_row.choose(
                logits.row(row), scale, numbers, total=float(totals[0]), beyond=float(candidates[0, -1])
            )
        )


def _edited(logits: Logits, edits: LogitEdits) -> dict[int, NDArray[np.float32]]:
    """The edited copies of the rows that edits change, by row."""
    named = (edits.bias_rows, edits.seen_rows, edits.mask_rows, edits.banned_rows)
    rows = {row: logits.row(row).copy() for row in np.unique(np.concatenate(named)).tolist()}
    for row, values in rows.items():
        at = edits.bias_rows == row
        values[edits.bias_ids[at]] += edits.bias[at]
        at = edits.seen_rows == row
        values[edits.seen_ids[at]] = _penalised(values[edits.seen_ids[at]], edits.seen_counts[at], edits.penalties[row])
        for mask in edits.masks[edits.mask_rows == row]:
            values[~np.unpackbits(mask, count=len(values), bitorder="little").view(np.bool_)] = -np.inf
        values[edits.banned_ids[edits.banned_rows == row]] = -np.inf
    return rows


def _penalised(
    logits: NDArray[np.float32], counts: NDArray[np.float32], penalties: NDArray[np.float32]
) -> NDArray[np.float32]:
    repetition, frequency, presence = penalties
    if repetition != 1:
        logits = np.where(logits > 0, logits / repetition, logits * repetition)
    penalised: NDArray[np.float32] = logits - frequency * counts - presence * (counts > 0)
    return penalised
