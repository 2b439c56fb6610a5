"""How much of prompts, predictions and outputs one step reads to guess from them."""

from collections.abc import Callable
from typing import Any

import pytest

from infermesh_engine.requests.request import GenerationRequest, StopConditions
from infermesh_engine.scheduling.kv_cache import KvCache
from infermesh_engine.scheduling.plan import Plan
from infermesh_engine.scheduling.scheduler import Scheduler
from infermesh_engine.scheduling.sequence import Sequence
from infermesh_engine.speculation.options import SpeculationOptions
from infermesh_engine.speculation.prompt_index import MOST_INDEXED, PromptIndex
from infermesh_engine.steps import candidates
from infermesh_engine.steps.speculation import Speculation

Make = Callable[..., Any]
THIRD = MOST_INDEXED // 3


@pytest.fixture
def guessing() -> Speculation:
    cache = KvCache(num_blocks=64, block_size=16, prefix_caching=False)
    scheduler = Scheduler(cache, max_sequences=64, max_batched_tokens=2048)
    return Speculation(SpeculationOptions(mode="always"), scheduler)


def readers(sequences: list[Sequence]) -> int:
    return sum(sequence.guessing.drafter is not None for sequence in sequences)


def test_a_step_reads_few_long_prompts(make_sequence: Make, guessing: Speculation) -> None:
    sequences = [make_sequence((5,) * (THIRD + 1), request_id=str(at), limit=10**6) for at in range(7)]
    for read in (3, 6, 7):
        guessing.extend(Plan(decodes=list(sequences)))
        assert readers(sequences) == read


def test_predictions_and_outputs_count_too(make_sequence: Make, guessing: Speculation) -> None:
    predicted = [make_sequence((5,), prediction=(6,) * THIRD, request_id=str(at)) for at in range(5)]
    guessing.extend(Plan(decodes=list(predicted)))
    assert readers(predicted) == 3
    resumed = [make_sequence((5,), request_id=str(at), limit=10**6) for at in range(5)]
    for sequence in resumed:
        for _ in range(THIRD):
            sequence.append(7)
    guessing.extend(Plan(decodes=list(resumed)))
    assert readers(resumed) == 3


def test_what_a_drafter_has_missed_is_read_in_parts(make_sequence: Make, guessing: Speculation) -> None:
    sequences = [make_sequence((5,), request_id=str(at), limit=10**6) for at in range(5)]
    guessing.extend(Plan(decodes=list(sequences)))
    for sequence in sequences:
        for _ in range(THIRD + 1):
            sequence.append(7)
    for read in (3, 5):
        guessing.extend(Plan(decodes=list(sequences)))
        assert sum(sequence.guessing.read_to == sequence.num_tokens for sequence in sequences) == read


def test_all_choices_of_a_request_read_its_prompt_once(make_bench: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []

    def counting(*args: Any) -> PromptIndex:
        made.append(1)
        return PromptIndex(*args)

    monkeypatch.setattr(candidates, "PromptIndex", counting)
    bench = make_bench(guesses=4)
    stop = StopConditions(max_tokens=6, ignore_eos=True)
    for name in ("a", "b"):
        bench.finish(GenerationRequest(request_id=name, prompt_token_ids=(1, 2, 3), seed=3, n=5, stop=stop))
    assert len(made) == 2
