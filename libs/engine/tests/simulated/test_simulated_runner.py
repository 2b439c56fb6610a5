"""The simulated device checks its batches and takes its time."""

from typing import Any

import numpy as np
import pytest

from infermesh_engine.runners.runner import Batch
from infermesh_engine.simulated.runner import SimulatedOptions, SimulatedRunner, UnwrittenKvError, VirtualClock

BLOCK = 4


def runner(**options: Any) -> SimulatedRunner:
    clock = VirtualClock()
    return SimulatedRunner(SimulatedOptions(block_size=BLOCK, **options), clock=clock, sleep=clock.sleep)


def batch(*runs: tuple[list[int], int, list[int]]) -> Batch:
    """Of (new tokens, past, block table) for each sequence; a row for each one's last token."""
    news = [len(tokens) for tokens, _, _ in runs]
    return Batch(
        token_ids=np.concatenate([tokens for tokens, _, _ in runs]).astype(np.int64),
        positions=np.concatenate([np.arange(past, past + len(tokens)) for tokens, past, _ in runs]),
        past_lens=np.array([past for _, past, _ in runs], dtype=np.int32),
        begins=np.cumsum([0, *news]).astype(np.int32),
        blocks=np.concatenate([table for _, _, table in runs]).astype(np.int32),
        block_begins=np.cumsum([0, *(len(table) for _, _, table in runs)]).astype(np.int32),
        max_context_tokens=max(past + len(tokens) for tokens, past, _ in runs),
        rows=(np.cumsum(news) - 1).astype(np.int32),
        inverse_temperatures=np.ones(len(runs), dtype=np.float32),
    )


TOKENS = [5, 6, 7, 8, 9, 10]


def test_chunks_batches_and_blocks_change_nothing() -> None:
    whole = runner().run(batch((TOKENS, 0, [0, 1]))).row(0)
    other = runner()
    other.run(batch((TOKENS[:3], 0, [7])))
    logits = other.run(batch(([1, 2], 0, [3]), (TOKENS[3:], 3, [7, 2])))
    assert logits.row(1).tobytes() == whole.tobytes()


@pytest.mark.parametrize("change", ["table", "lost", "token", "order"])
def test_a_fault_changes_the_logits(change: str) -> None:
    def last(runner: SimulatedRunner, tokens: list[int], table: list[int]) -> np.ndarray:
        runner.run(batch((tokens, 0, [4, 5])))
        runner.run(batch(([1] * 8, 0, [6, 7])))
        if change == "lost" and table != [4, 5]:
            runner.run(batch(([2] * 4, 0, [4])))
            table = [4, 5]
        return runner.run(batch(([11], len(tokens), table))).row(0).copy()

    right = last(runner(), TOKENS, [4, 5])
    wrong = {
        "table": lambda: last(runner(), TOKENS, [6, 5]),
        "lost": lambda: last(runner(), TOKENS, [0, 0]),
        "token": lambda: last(runner(), [5, 6, 7, 8, 9, 11], [4, 5]),
        "order": lambda: last(runner(), [6, 5, *TOKENS[2:]], [4, 5]),
    }[change]()
    assert (right != wrong).any()


def test_stored_values_depend_on_all_tokens_before_them() -> None:
    one, two = runner(), runner()
    one.run(batch(([1, 1, 1, 1, 7, 7, 7, 7], 0, [0, 1])))
    two.run(batch(([2, 2, 2, 2, 7, 7, 7, 7], 0, [0, 1])))
    two.run(batch(([1, 1, 1, 1], 0, [0])))
    assert (one.run(batch(([3], 8, [0, 1, 2]))).row(0) != two.run(batch(([3], 8, [0, 1, 2]))).row(0)).any()


def test_reading_what_was_never_written_raises() -> None:
    r = runner()
    r.run(batch((TOKENS[:3], 0, [0])))
    with pytest.raises(UnwrittenKvError):
        r.run(batch(([1], 4, [0, 1])))


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (batch((TOKENS, 0, [0, 1, 2])), "exactly as long"),
        (batch((TOKENS, 0, [0, 99_999])), "block does not exist"),
        (batch(([99_999], 0, [0])), "token does not exist"),
        (batch(([1], 1, [0])), "too short"),
    ],
)
def test_a_batch_that_breaks_the_contract_raises(broken: Batch, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        runner(min_run_tokens=2).run(broken)


@pytest.mark.parametrize("vocab_size", [10, 64, 65, 512, 7919, 50_000])
def test_candidates_and_sums_agree_with_the_rows(vocab_size: int) -> None:
    r = runner(vocab_size=vocab_size)
    one = batch(([1, 2], 0, [0]), ([3], 0, [1]))
    scales = np.array([0.5, 3.0], dtype=np.float32)
    logits = r.run(Batch(**{name: getattr(one, name) for name in Batch.__slots__} | {"inverse_temperatures": scales}))
    for index, scale in enumerate(scales):
        row = logits.row(index)
        count = min(64, vocab_size)
        best = np.argsort(-row, kind="stable")[:count]
        assert logits.top_ids[index].tolist() == best.tolist()
        assert logits.top_logits[index].tolist() == row[best].tolist()
        wide = row.astype(np.float64)
        assert logits.logsumexp[index] == pytest.approx(np.log(np.exp(wide).sum()), abs=1e-5)
        assert logits.scaled_logsumexp[index] == pytest.approx(np.log(np.exp(wide * scale).sum()), abs=1e-5)


def test_time_passes_by_the_rates() -> None:
    clock = VirtualClock()
    options = SimulatedOptions(block_size=BLOCK, prefill_tokens_per_s=100, base_itl_s=0.01, slope_itl_s=0.002)
    r = SimulatedRunner(options, clock=clock, sleep=clock.sleep)
    r.run(batch((TOKENS, 0, [0, 1]), ([1, 2, 3, 4], 0, [2])))
    assert clock() == pytest.approx(0.1)
    r.run(batch(([1], 6, [0, 1]), ([2], 4, [2, 3])))
    assert clock() == pytest.approx(0.1 + 0.014)
    r.run(batch(([1], 7, [0, 1]), ([5, 6], 0, [4])))
    assert clock() == pytest.approx(0.114 + 0.012 + 0.02)
