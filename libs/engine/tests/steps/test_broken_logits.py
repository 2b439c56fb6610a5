"""A sequence whose logits are not finite ends its request with an error that names the model; others go on."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tokenizers import Tokenizer

from infermesh_engine.engine import Engine, EngineConfig
from infermesh_engine.requests.output import Delta, Failed, Finished
from infermesh_engine.requests.request import GenerationRequest, SamplingParams, StopConditions
from infermesh_engine.runners.first_pass import is_finite
from infermesh_engine.runners.runner import Batch, Logits
from infermesh_engine.simulated.runner import SimulatedOptions, SimulatedRunner
from infermesh_engine.simulated.sampling_runner import SimulatedSamplingRunner
from infermesh_runtime.errors import Code

POISON = 200
"""The token whose embedding is NaN."""
OPTIONS = SimulatedOptions(vocab_size=257, block_size=4, num_blocks=64, context_length=128)


@dataclass
class Damaged:
    """Logits of which some rows are NaN."""

    inner: Logits
    rows: list[int]

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    @property
    def top_logits(self) -> NDArray[np.float32]:
        values = self.inner.top_logits.copy()
        values[self.rows] = np.nan
        return values


def damaged(batch: Batch, logits: Logits) -> Any:
    sequence_of = np.searchsorted(batch.begins, batch.rows, side="right") - 1
    runs = np.split(batch.token_ids, batch.begins[1:-1])
    return Damaged(logits, [row for row, sequence in enumerate(sequence_of) if POISON in runs[sequence]])


class SerialRunner(SimulatedRunner):
    def run(self, batch: Batch) -> Any:
        return damaged(batch, super().run(batch))


class OverlappedRunner(SimulatedSamplingRunner):
    def _run(self, batch: Batch) -> Any:
        return damaged(batch, super()._run(batch))


def request(name: str, *prompt: int, **sampling: float) -> GenerationRequest:
    stop = StopConditions(max_tokens=6, ignore_eos=True)
    params = SamplingParams(**sampling)  # type: ignore[arg-type] # numbers of one type are enough here
    return GenerationRequest(request_id=name, prompt_token_ids=prompt, seed=7, stop=stop, sampling=params)


@pytest.mark.parametrize("make", [SerialRunner, OverlappedRunner])
@pytest.mark.parametrize("sampling", [{"temperature": 0.0}, {"temperature": 1.0}, {"repetition_penalty": 1.3}], ids=str)
def test_only_the_request_with_broken_logits_ends(
    make: Callable[[SimulatedOptions], Any], sampling: dict[str, float], byte_tokenizer: Tokenizer
) -> None:
    engine = Engine(make(OPTIONS), byte_tokenizer, frozenset(), EngineConfig(model="damaged-7b"))
    for each in (request("good", 1, 2, 3, **sampling), request("bad", 4, POISON, **sampling)):
        engine.submit(each)
    outputs = []
    for _ in range(30):
        outputs += engine.step() if engine.has_work else []
    (failed,) = [output for output in outputs if isinstance(output, Failed)]
    assert (failed.request_id, failed.error.code, failed.error.reason) == ("bad", Code.INTERNAL, "LOGITS_NOT_FINITE")
    assert "Model 'damaged-7b' computes logits that are not finite" in failed.error.message
    good = [output for output in outputs if not isinstance(output, Failed)]
    assert {output.request_id for output in good} == {"good"}
    assert sum(isinstance(output, Delta) for output in good) == 6
    assert sum(isinstance(output, Finished) for output in good) == 1
    assert not engine.has_work


def test_the_first_pass_sees_what_is_not_finite() -> None:
    assert is_finite(SimulatedRunner(OPTIONS))

    class AllDamaged(SimulatedRunner):
        def run(self, batch: Batch) -> Any:
            return Damaged(super().run(batch), list(range(len(batch.rows))))

    assert not is_finite(AllDamaged(OPTIONS))
