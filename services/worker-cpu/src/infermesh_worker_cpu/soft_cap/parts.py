"""Splits a step's batch into parts whose padded scores and keys fit in bounded memory, each run by itself."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from infermesh_engine.runners.runner import Batch

SCORES = 1 << 21
"""Most scores of one part and head: queries times context, padded."""
KEYS = 1 << 16
"""Most keys of one part and head, padded. A single sequence may have more."""
_FREE_SCORES, _FREE_KEYS = 1 << 13, 1 << 12
"""Padding up to here, and up to as much again as there is, costs less than another pass over the weights."""


@dataclass(frozen=True, slots=True)
class Run:
    """Consecutive new tokens of one sequence of a batch."""

    sequence: int
    begin: int
    """Index into the batch's tokens."""
    tokens: int
    context: int
    """Tokens of the sequence up to the last of these."""


@dataclass(frozen=True, slots=True)
class Part:
    """A batch of its own, and which rows of the whole batch its rows are."""

    batch: Batch
    rows: Sequence[int]


def split(batch: Batch, block_size: int, least: int) -> list[Part]:
    """Parts that, run in this order, compute the batch.

    `least`: tokens that a piece of a run that is split must have, as long as its run has them.
    """
    whole: list[Run] = []
    long: list[Run] = []
    for run in _runs(batch):
        pieces = list(_pieces(run, least))
        (whole if len(pieces) == 1 else long).extend(pieces)
    groups = [*_groups(sorted(whole, key=lambda run: (run.tokens, run.context))), *([piece] for piece in long)]
    if len(groups) == 1:
        return [Part(batch, range(len(batch.rows)))]
    return [_part(batch, sorted(group, key=lambda run: run.begin), block_size) for group in groups]


def _runs(batch: Batch) -> Iterator[Run]:
    begins = batch.begins.tolist()
    for index, past in enumerate(batch.past_lens.tolist()):
        tokens = begins[index + 1] - begins[index]
        yield Run(index, begins[index], tokens, past + tokens)


def _pieces(run: Run, least: int) -> Iterator[Run]:
    """Splits a run whose scores are too many, evenly."""
    most = max(1, SCORES // run.context)
    count = min(-(-run.tokens // most), max(1, run.tokens // least))
    past = run.context - run.tokens
    edges = [run.tokens * index // count for index in range(count + 1)]
    for begin, end in pairwise(edges):
        yield Run(run.sequence, run.begin + begin, end - begin, past + end)


def _groups(runs: Sequence[Run]) -> Iterator[list[Run]]:
    group: list[Run] = []
    for run in runs:
        if group and not _fits([*group, run]):
            yield group
            group = []
        group.append(run)
    if group:
        yield group


def _fits(runs: Sequence[Run]) -> bool:
    """Whether runs may be padded to the same number of tokens and the same context."""
    context = max(run.context for run in runs)
    keys = len(runs) * context
    scores = keys * max(run.tokens for run in runs)
    used_keys, used_scores = sum(run.context for run in runs), sum(run.context * run.tokens for run in runs)
    return keys <= min(KEYS, 2 * used_keys + _FREE_KEYS) and scores <= min(SCORES, 2 * used_scores + _FREE_SCORES)


def _part(batch: Batch, runs: Sequence[Run], block_size: int) -> Part:
    tokens = np.concatenate([np.arange(run.begin, run.begin + run.tokens) for run in runs])
    tables = []
    for run in runs:
        first = int(batch.block_begins[run.sequence])
        tables.append(batch.blocks[first : first + -(-run.context // block_size)])
    kept = np.isin(batch.rows, tokens)
    return Part(
        Batch(
            token_ids=batch.token_ids[tokens],
            positions=batch.positions[tokens],
            past_lens=np.array([run.context - run.tokens for run in runs], np.int32),
            begins=np.cumsum([0, *(run.tokens for run in runs)], dtype=np.int32),
            blocks=np.concatenate(tables),
            block_begins=np.cumsum([0, *(len(table) for table in tables)], dtype=np.int32),
            max_context_tokens=max(run.context for run in runs),
            rows=np.searchsorted(tokens, batch.rows[kept]).astype(np.int32),
            inverse_temperatures=batch.inverse_temperatures[kept],
        ),
        np.flatnonzero(kept).tolist(),
    )
