"""Guessing tokens ahead on OpenVINO: with INFERMESH_NUMERICS=exact, the tokens are those of the run without."""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from infermesh_engine.requests.output import Delta, Finished
from infermesh_engine.requests.request import GenerationRequest, SamplingParams
from infermesh_engine.runners.runner import Batch
from infermesh_engine.speculation.options import SpeculationOptions
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.testing.harness import Harness

TOKENS = 24
SAMPLINGS = (
    SamplingParams(temperature=0.0),
    SamplingParams(temperature=0.8, top_p=0.95),
    SamplingParams(temperature=0.0, repetition_penalty=1.2),
)
Answer = tuple[tuple[int, ...], str, tuple[Any, ...], Any]
"""Tokens, text, log probabilities and finish reason."""


@pytest.fixture(scope="module")
def expected(exact_model: BuiltModel, prompts: tuple[str, ...]) -> dict[str, Answer]:
    """What the requests give without guesses."""
    harness = Harness(exact_model, prefix_caching=False)
    return answers(harness, requests(harness, prompts))


def requests(
    harness: Harness, prompts: tuple[str, ...], predictions: dict[str, tuple[int, ...]] | None = None
) -> list[GenerationRequest]:
    return [
        harness.request(
            prompt, prompt, tokens=TOKENS, sampling=sampling, logprobs=2, prediction=(predictions or {}).get(prompt, ())
        )
        for prompt, sampling in zip(prompts[:3], SAMPLINGS, strict=True)
    ]


def answers(harness: Harness, asked: list[GenerationRequest]) -> dict[str, Answer]:
    found: dict[str, Answer] = {each.request_id: ((), "", (), None) for each in asked}
    for output in harness.run(*asked):
        if isinstance(output, Delta):
            tokens, text, logprobs, end = found[output.request_id]
            found[output.request_id] = tokens + output.token_ids, text + output.text, logprobs + output.logprobs, end
        elif isinstance(output, Finished):
            tokens, text, logprobs, _ = found[output.request_id]
            found[output.request_id] = tokens, text, logprobs, output.finish_reason
    return found


@pytest.mark.parametrize("guesses", [1, 4])
def test_exact_answers_are_those_of_the_run_without(
    exact_model: BuiltModel,
    harness_of: Callable[..., Harness],
    prompts: tuple[str, ...],
    expected: dict[str, Answer],
    guesses: int,
) -> None:
    harness = harness_of(exact_model, speculation=SpeculationOptions(mode="always", max_tokens=guesses))
    told = {prompt: spoilt(tokens) for prompt, (tokens, *_) in expected.items()}
    assert answers(harness, requests(harness, prompts, told)) == expected
    load = harness.engine.load()
    assert 20 < load.accepted_tokens < load.drafted_tokens


def spoilt(tokens: tuple[int, ...]) -> tuple[int, ...]:
    """Tokens with every tenth one wrong."""
    return tuple(token + (place % 10 == 9) for place, token in enumerate(tokens))


def test_every_row_of_a_short_chunk_has_the_bits_of_a_single_step(exact_model: BuiltModel) -> None:
    runner, ids, past = exact_model.runner, np.random.default_rng(5).integers(300, 40_000, 70), 60
    runner.run(chunk(ids, 0, past))
    singles = [runner.run(chunk(ids, end - 2, end)).row(1).copy() for end in range(past + 1, past + 10)]
    for size in (2, 3, 5, 9):  # a KV block ends within the longest; what is beyond the chunk is overwritten
        rows = runner.run(chunk(ids, past, past + size))
        assert all(np.array_equal(rows.row(at), singles[at]) for at in range(size))


def chunk(ids: npt.NDArray[np.int64], past: int, end: int) -> Batch:
    """A batch of one run, with the logits of each of its tokens."""
    blocks = np.arange(-(-end // 32), dtype=np.int32)
    return Batch(
        token_ids=ids[past:end],
        positions=np.arange(past, end),
        past_lens=np.array([past], np.int32),
        begins=np.array([0, end - past], np.int32),
        blocks=blocks,
        block_begins=np.array([0, len(blocks)], np.int32),
        max_context_tokens=end,
        rows=np.arange(end - past, dtype=np.int32),
        inverse_temperatures=np.ones(end - past, np.float32),
    )
