"""Turns a plan into the arrays that a runner reads."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from infermesh_engine.runners.images import ImageRows
from infermesh_engine.runners.runner import SCORED_ROWS, Batch, RunnerInfo
from infermesh_engine.scheduling.plan import Draft, Plan, PrefillChunk
from infermesh_engine.scheduling.sequence import Sequence


class BatchBuilder:
    """Builds batches in its own buffers, so a batch is valid until the next one is built."""

    def __init__(self, *, max_batched_tokens: int, max_sequences: int, info: RunnerInfo) -> None:
        self._block_size = info.block_size
        self._min_run = info.min_run_tokens
        self._image_rope = info.image_rope
        tokens = max_batched_tokens + max_sequences * self._min_run
        self._count = np.arange(max(info.context_length, tokens) + 1, dtype=np.int64)
        self._token_ids = np.empty(tokens, dtype=np.int64)
        self._positions = np.empty(tokens, dtype=np.int64)
        self._past_lens = np.empty(max_sequences, dtype=np.int32)
        self._begins = np.empty(max_sequences + 1, dtype=np.int32)
        self._block_begins = np.zeros(max_sequences + 1, dtype=np.int32)
        self._rows = np.empty(max_sequences + SCORED_ROWS, dtype=np.int32)

    def build(self, plan: Plan, sampled: list[Sequence]) -> Batch:
        """The plan's batch. `sampled` is the plan's; its order is that of the rows, of which drafts have several."""
        tables: list[NDArray[np.int32]] = []
        images: list[ImageRows] = []
        if self._min_run == 1:
            total, longest = self._set_decodes(plan.decodes, tables)
        else:
            total, longest = self._add_runs(((sequence, 1) for sequence in plan.decodes), tables, images, 0, 0)
        if plan.drafts:
            total, longest = self._add_drafts(plan.drafts, tables, total, longest)
        if plan.prefills:
            runs = ((chunk.sequence, chunk.tokens) for chunk in plan.prefills)
            total, longest = self._add_runs(runs, tables, images, total, longest, row=plan.decode_rows)
        rows = self._rows[: len(sampled) + plan.decode_rows - len(plan.decoding)]
        inverse_temperatures = np.array([s.sampler.inverse_temperature for s in sampled], dtype=np.float32)
        if plan.drafts:
            inverse_temperatures = np.repeat(inverse_temperatures, _row_counts(plan, len(sampled)))
        if (scoring := plan.scoring) is not None:
            rows, inverse_temperatures = _with_scored(rows, inverse_temperatures, scoring, total)
        sequences = len(tables)
        np.cumsum([len(table) for table in tables], out=self._block_begins[1 : sequences + 1])
        return Batch(
            token_ids=self._token_ids[:total],
            positions=self._positions[:total],
            past_lens=self._past_lens[:sequences],
            begins=self._begins[: sequences + 1],
            blocks=np.concatenate(tables),
            block_begins=self._block_begins[: sequences + 1],
            max_context_tokens=longest,
            rows=rows,
            inverse_temperatures=inverse_temperatures,
            images=tuple(images),
            rope=self._rope(plan, total) if self._image_rope else None,
        )

    def _set_decodes(self, decodes: list[Sequence], tables: list[NDArray[np.int32]]) -> tuple[int, int]:
        """One token of each sequence. Does what `_add_runs` does, but for all at once, because every step does it."""
        count = len(decodes)
        past = [sequence.computed for sequence in decodes]
        self._past_lens[:count] = past
        self._positions[:count] = past
        self._token_ids[:count] = [sequence.last_token for sequence in decodes]
        self._begins[: count + 1] = self._count[: count + 1]
        self._rows[:count] = self._count[:count]
        tables += [sequence.blocks.view for sequence in decodes]
        return count, max(past, default=-1) + 1

    def _add_runs(
        self,
        runs: Iterable[tuple[Sequence, int]],
        tables: list[NDArray[np.int32]],
        images: list[ImageRows],
        at: int,
        longest: int,
        *,
        row: int = 0,
    ) -> tuple[int, int]:
        """Appends runs of tokens from index `at` on; returns the batch's new token count and longest context.

        `row`: how many rows the sequences before have.
        """
        self._begins[len(tables)] = at
        for sequence, tokens in runs:
            end = sequence.computed + tokens
            past = max(0, min(sequence.computed, end - self._min_run))
            self._past_lens[len(tables)] = past
            self._token_ids[at : at + end - past] = sequence.tokens.view[past:end]
            self._positions[at : at + end - past] = self._count[past:end]
            if sequence.images is not None:
                images += sequence.images.rows(past, end, at, sequence.choice)
            at += end - past
            tables.append(sequence.blocks.view[: -(-end // self._block_size)])
            self._begins[len(tables)] = at
            longest = max(longest, end)
            if end == sequence.num_tokens:
                self._rows[row] = at - 1
                row += 1
        return at, longest

    def _add_drafts(
        self, drafts: list[Draft], tables: list[NDArray[np.int32]], at: int, longest: int
    ) -> tuple[int, int]:
        """Appends drafts, each with a row for every token, as `_add_runs` does."""
        row = len(tables)  # all sequences before are decodes, and each has a row
        for draft in drafts:
            past, tokens = draft.sequence.computed, draft.tokens
            self._past_lens[len(tables)] = past
            self._begins[len(tables)] = at
            self._token_ids[at] = draft.sequence.last_token
            self._token_ids[at + 1 : at + tokens] = draft.token_ids
            self._positions[at : at + tokens] = self._count[past : past + tokens]
            self._rows[row : row + tokens] = self._count[at : at + tokens]
            tables.append(draft.sequence.blocks.view[: -(-(past + tokens) // self._block_size)])
            at, row, longest = at + tokens, row + tokens, max(longest, past + tokens)
        self._begins[len(tables)] = at
        return at, longest

    def _rope(self, plan: Plan, total: int) -> NDArray[np.int64] | None:
        """The rotary positions of the runs that were added last, if any of their prompts has images."""
        sequences = [*plan.decoding, *(chunk.sequence for chunk in plan.prefills)]
        if all(sequence.images is None for sequence in sequences):
            return None
        rope = np.tile(self._positions[:total], (3, 1))
        first = len(plan.decodes) if self._min_run == 1 else 0
        if first:  # one token each, after the last image
            rope[:, :first] += [0 if s.images is None else s.images.shift for s in plan.decodes]
        for index, sequence in enumerate(sequences[first:], first):
            begin, end = self._begins[index : index + 2].tolist()
            if sequence.images is not None:
                past = int(self._past_lens[index])
                rope[:, begin:end] = sequence.images.rope(past, past + end - begin)
        return rope


def _with_scored(
    rows: NDArray[np.int32], inverse_temperatures: NDArray[np.float32], scoring: PrefillChunk, total: int
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Adds rows for the positions that a chunk scores, before the row that samples its own token.

    The chunk is the last of the batch's `total` tokens. `scored_rows` says where its rows are.
    """
    end = scoring.sequence.computed + scoring.tokens
    scored = np.arange(scoring.scored.start, scoring.scored.stop, dtype=np.int32) + np.int32(total - end)
    others = len(rows) - scoring.completes
    ones = np.ones(len(scored), dtype=np.float32)
    return (
        np.concatenate([rows[:others], scored, rows[others:]]),
        np.concatenate([inverse_temperatures[:others], ones, inverse_temperatures[others:]]),
    )


def _row_counts(plan: Plan, sampled: int) -> list[int]:
    """How many rows each sampled sequence of a plan with drafts has."""
    completed = sampled - len(plan.decodes) - len(plan.drafts)
    return [*([1] * len(plan.decodes)), *(draft.tokens for draft in plan.drafts), *([1] * completed)]


def first_rows(plan: Plan, sampled: int) -> NDArray[np.int64]:
    """Of each sampled sequence of a plan with drafts: its first row."""
    counts = np.array(_row_counts(plan, sampled), dtype=np.int64)
    firsts: NDArray[np.int64] = np.cumsum(counts) - counts
    return firsts


def scored_rows(scoring: PrefillChunk, sampled: int) -> range:
    """The rows that score a chunk, in the batch of a plan that samples for `sampled` sequences."""
    first = sampled - scoring.completes
    return range(first, first + len(scoring.scored))
