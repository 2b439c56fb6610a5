"""A step is split into parts that are bounded in memory, and that compute each of its tokens once, in order."""

import numpy as np
import pytest

from infermesh_engine.runners.runner import Batch
from infermesh_worker_cpu.soft_cap import parts
from infermesh_worker_cpu.soft_cap.parts import Part, split

BLOCK = 32


def batch(*runs: tuple[int, int], rows: list[int] | None = None) -> Batch:
    """Sequences of (tokens computed before, new tokens). Token ids count from 0; sequence i's blocks from i · 1000."""
    past, new = np.array(runs).T
    tables = [np.arange(-(-(before + tokens) // BLOCK)) + 1000 * index for index, (before, tokens) in enumerate(runs)]
    wanted = np.cumsum(new) - 1 if rows is None else np.array(rows)
    return Batch(
        token_ids=np.arange(new.sum()),
        positions=np.concatenate([np.arange(before, before + tokens) for before, tokens in runs]),
        past_lens=past.astype(np.int32),
        begins=np.cumsum([0, *new], dtype=np.int32),
        blocks=np.concatenate(tables).astype(np.int32),
        block_begins=np.cumsum([0, *map(len, tables)], dtype=np.int32),
        max_context_tokens=int((past + new).max()),
        rows=wanted.astype(np.int32),
        inverse_temperatures=np.arange(1, len(wanted) + 1, dtype=np.float32),
    )


def padded(part: Part) -> tuple[int, int]:
    """Padded keys and scores of a part."""
    keys = len(part.batch.past_lens) * part.batch.max_context_tokens
    return keys, keys * int(np.diff(part.batch.begins).max())


def test_a_decode_step_of_like_sequences_is_one_part_and_not_copied() -> None:
    step = batch(*[(900 + 10 * index, 1) for index in range(8)])
    (part,) = split(step, BLOCK, 1)
    assert part.batch is step


def test_sequences_of_very_different_lengths_run_apart() -> None:
    step = batch((7999, 1), *[(99, 1)] * 7, (0, 512))
    sizes = [[int(size) for size in np.diff(part.batch.begins)] for part in split(step, BLOCK, 1)]
    assert sizes == [[1] * 7, [1], [512]]


@pytest.mark.parametrize("least", [1, 2])
def test_every_token_and_row_is_computed_once_within_the_bounds(least: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SCORES", 4096)
    monkeypatch.setattr(parts, "KEYS", 512)
    rng = np.random.default_rng(least)
    for _ in range(100):
        runs = [(int(rng.integers(0, 300)), int(rng.choice([1, 1, 2, 30, 200]))) for _ in range(rng.integers(1, 8))]
        total = sum(tokens for _, tokens in runs)
        step = batch(*runs, rows=sorted(rng.choice(total, rng.integers(0, total + 1), replace=False).tolist()))
        made = split(step, BLOCK, least)
        past = step.past_lens.copy()
        for part in made:
            keys, scores = padded(part)
            alone = len(part.batch.past_lens) == 1
            pieces = np.diff(part.batch.begins)
            assert alone or (keys <= 512 and scores <= 4096)
            assert scores <= 4096 or pieces.max() <= 2 * least + 1 or keys > 4096 // least
            for index, begin in enumerate(part.batch.begins[:-1]):
                sequence = part.batch.blocks[part.batch.block_begins[index]] // 1000
                assert part.batch.past_lens[index] == past[sequence]  # what came before it was computed before
                assert part.batch.token_ids[begin] == step.begins[sequence] + past[sequence] - step.past_lens[sequence]
                past[sequence] += pieces[index]
                assert pieces[index] >= min(least, runs[sequence][1])
                table = part.batch.blocks[part.batch.block_begins[index] : part.batch.block_begins[index + 1]]
                assert len(table) == -(-past[sequence] // BLOCK)
        assert past.tolist() == [before + tokens for before, tokens in runs]
        assert sorted(row for part in made for row in part.rows) == list(range(len(step.rows)))
        for part in made:
            assert np.array_equal(part.batch.token_ids[part.batch.rows], step.rows[list(part.rows)])
            assert np.array_equal(part.batch.inverse_temperatures, step.inverse_temperatures[list(part.rows)])
