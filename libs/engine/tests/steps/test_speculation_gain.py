"""What guessing ahead gains or costs, by the time that steps of so many rows take."""

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from infermesh_engine.scheduling.kv_cache import KvCache
from infermesh_engine.scheduling.plan import Plan
from infermesh_engine.scheduling.scheduler import Scheduler
from infermesh_engine.scheduling.sequence import Sequence
from infermesh_engine.speculation.options import SpeculationOptions
from infermesh_engine.steps.speculation import Speculation

Make = Callable[..., Sequence]
NextToken = Callable[[int], int]
"""The token that comes after this one."""


@dataclass
class Streams:
    """Sequences that decode with guesses. `gain`: tokens per second as a share of those without guesses."""

    sequences: list[Sequence]
    next_token: NextToken
    cost: Callable[[int], float]

    def __post_init__(self) -> None:
        scheduler = Scheduler(
            KvCache(num_blocks=4096, block_size=16, prefix_caching=False), max_sequences=64, max_batched_tokens=2048
        )
        self.speculation = Speculation(SpeculationOptions(mode="auto"), scheduler)
        self.guesses: list[int] = []
        """Guesses of each step."""
        self._seconds = 0.0

    def run(self, steps: int) -> None:
        for _ in range(steps):
            plan = self.speculation.extend(Plan(decodes=list(self.sequences)))
            seconds = self.cost(plan.decode_rows)
            self._seconds += seconds
            self.guesses.append(plan.decode_rows - len(self.sequences))
            guesses = {id(draft.sequence): draft.token_ids for draft in plan.drafts}
            for sequence in plan.decoding:
                self._verify(sequence, guesses.get(id(sequence), ()))
            self.speculation.ran(plan, seconds)

    @property
    def gain(self) -> float:
        tokens = sum(sequence.completion_tokens for sequence in self.sequences)
        return tokens / self._seconds * self.cost(len(self.sequences)) / len(self.sequences)

    def _verify(self, sequence: Sequence, guesses: tuple[int, ...]) -> None:
        for guess in (*guesses, -1):
            sequence.append(token := self.next_token(sequence.last_token))
            if token != guess:
                break


def streams(make_sequence: Make, count: int, prompt: tuple[int, ...], **fields: Any) -> Streams:
    return Streams([make_sequence(prompt, request_id=str(at), arrival=at) for at in range(count)], **fields)


def any_of(symbols: int) -> tuple[tuple[int, ...], NextToken]:
    """A prompt and the tokens after it. There is always a guess, and one of so many is right."""
    draw = random.Random(symbols)
    return tuple(draw.randrange(symbols) for _ in range(20 * symbols)), lambda _: draw.randrange(symbols)


def mostly_counting(right: float) -> tuple[tuple[int, ...], NextToken]:
    """A prompt and the tokens after it, of which so many can be guessed."""
    draw = random.Random(1)
    return (*range(40),) * 3, lambda last: (last + 1) % 40 if draw.random() < right else draw.randrange(40)


def of_rows(fixed: float, row: float) -> Callable[[int], float]:
    return lambda rows: fixed + row * rows


@pytest.mark.parametrize(("count", "symbols"), [(8, 10), (8, 5), (17, 5), (25, 5), (33, 5)])
def test_unlikely_guesses_cost_little(make_sequence: Make, count: int, symbols: int) -> None:
    prompt, next_token = any_of(symbols)
    run = streams(make_sequence, count, prompt, next_token=next_token, cost=of_rows(0.020, 0.006))
    run.run(128)
    assert sum(run.guesses) > 0
    assert run.gain >= 0.99


@pytest.mark.parametrize(("count", "least"), [(1, 1.45), (4, 1.15), (8, 1.08)])
def test_likely_guesses_pay_soon(make_sequence: Make, count: int, least: float) -> None:
    prompt, next_token = mostly_counting(0.8)
    run = streams(make_sequence, count, prompt, next_token=next_token, cost=of_rows(0.020, 0.002))
    run.run(128)
    assert run.gain >= least


@pytest.mark.parametrize("cost", [of_rows(0.0, 0.006), of_rows(0.020, 0.020)])
def test_a_round_measures_so_many_steps_with_guesses(make_sequence: Make, cost: Callable[[int], float]) -> None:
    """Once where a look at the sizes says that no guess can pay, and once where only the chances say so."""
    prompt, next_token = mostly_counting(0.6)
    run = streams(make_sequence, 8, prompt, next_token=next_token, cost=cost)
    run.run(200)
    first = next(at for at in range(32, 200) if run.guesses[at])
    rounds = [at for at in range(first - 32, first + 64) if run.guesses[at]]
    assert len(rounds) == 4
