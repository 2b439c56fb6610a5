"""A request that ends in NaN is tried against the prompt that the model answered when it was loaded."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from infermesh_engine.engine import Engine, EngineConfig
from infermesh_engine.requests.output import Failed, Output
from infermesh_engine.requests.request import GenerationRequest, StopConditions
from infermesh_engine.runners.runner import Batch, Logits
from infermesh_engine.simulated.runner import SimulatedOptions, SimulatedRunner, VirtualClock
from infermesh_engine.simulated.sampling_runner import SimulatedSamplingRunner
from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.engine_process.soundness import Soundness
from infermesh_worker.testing.simulated_engine import VOCAB_SIZE, build_tokenizer

POISON = 200
"""A token of which the model computes NaN."""
OPTIONS = SimulatedOptions(vocab_size=VOCAB_SIZE, block_size=4, num_blocks=64, context_length=128)


@dataclass
class Damaged:
    """Logits of which some rows are NaN."""

    inner: Logits
    rows: NDArray[np.bool_]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @property
    def top_logits(self) -> NDArray[np.float32]:
        return np.where(self.rows[:, None], np.float32(np.nan), self.inner.top_logits)


class SerialRunner(SimulatedRunner):
    all_damaged = False

    def run(self, batch: Batch) -> Any:
        return damage(batch, super().run(batch), self.all_damaged)


class OverlappedRunner(SimulatedSamplingRunner):
    all_damaged = False

    def _run(self, batch: Batch) -> Any:
        return damage(batch, super()._run(batch), self.all_damaged)


def damage(batch: Batch, logits: Logits, all_damaged: bool) -> Any:
    runs = np.split(batch.token_ids, batch.begins[1:-1])
    sequences = np.searchsorted(batch.begins, batch.rows, side="right") - 1
    return Damaged(logits, np.array([all_damaged or POISON in runs[sequence] for sequence in sequences]))


def ask(name: str, *prompt: int) -> GenerationRequest:
    stop = StopConditions(max_tokens=6, ignore_eos=True)
    return GenerationRequest(request_id=name, prompt_token_ids=prompt, seed=7, stop=stop)


def started(make: Callable[..., Any]) -> tuple[Any, Engine, Soundness]:
    clock = VirtualClock()
    runner = make(OPTIONS, clock=clock, sleep=clock.sleep)
    engine = Engine(runner, build_tokenizer(), frozenset(), EngineConfig(model="m"))
    return runner, engine, Soundness(engine, runner.info, "m")


def run(engine: Engine, soundness: Soundness) -> list[Output]:
    outputs: list[Output] = []
    while engine.has_work:
        outputs += soundness.watch(engine.step())
    return outputs


runners = pytest.mark.parametrize("make", [SerialRunner, OverlappedRunner])


@runners
def test_a_requests_own_nan_ends_nothing_else(make: Callable[..., Any]) -> None:
    _, engine, soundness = started(make)
    for _ in range(3):
        for each in (ask("good", 1, 2, 3), ask("bad", 4, POISON)):
            engine.submit(each)
        outputs = run(engine, soundness)
        assert [output.request_id for output in outputs if isinstance(output, Failed)] == ["bad"]
        assert {output.request_id for output in outputs} == {"good", "bad"}
    assert engine.load().generated_tokens >= 3 * 7, "the model was asked each time"


@runners
def test_a_model_that_computes_nan_for_every_request_ends_by_name(make: Callable[..., Any]) -> None:
    runner, engine, soundness = started(make)
    engine.submit(ask("good", 1, 2, 3))
    assert not any(isinstance(output, Failed) for output in run(engine, soundness))
    runner.all_damaged = True
    engine.submit(ask("any", 1, 2, 3))
    with pytest.raises(FailedPrecondition, match="model 'm' computes logits that are not finite") as caught:
        run(engine, soundness)
    assert caught.value.reason == "LOGITS_NOT_FINITE"
