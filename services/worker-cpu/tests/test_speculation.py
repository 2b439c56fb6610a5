"""Guessing tokens ahead on OpenVINO: with INFERMESH_NUMERICS=exact, the tokens are those of the run without."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from infermesh_engine.requests.output import Delta, Finished
from infermesh_engine.requests.request import SamplingParams
from infermesh_engine.runners.runner import Batch
from infermesh_engine.speculation.options import SpeculationOptions
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.testing.harness import Harness

HarnessOf = Callable[..., Harness]
SAMPLINGS = {
    "greedy": SamplingParams(temperature=0.0),
    "sampled": SamplingParams(temperature=0.8, top_p=0.95),
    "penalised": SamplingParams(temperature=0.0, repetition_penalty=1.2),
}


def always(guesses: int) -> SpeculationOptions:
    return SpeculationOptions(mode="always", max_tokens=guesses)


@pytest.mark.parametrize("guesses", [1, 4, 7])
@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_exact_tokens_are_those_of_the_run_without(
    exact_model: BuiltModel,
    harness_of: HarnessOf,
    prompts: tuple[str, ...],
    sampling: SamplingParams,
    guesses: int,
) -> None:
    plain = harness_of(exact_model, prefix_caching=False)
    asked = [(prompt, {"sampling": sampling, "tokens": 40, "logprobs": 2}) for prompt in prompts[:4]]
    expected = results(plain, [plain.request(p, p, **fields) for p, fields in asked])
    fast = harness_of(exact_model, speculation=always(guesses))
    wrong = {prompt: spoilt(tokens) for prompt, (tokens, *_) in expected.items()}
    told = [fast.request(p, p, prediction=wrong[p], **fields) for p, fields in asked]
    assert results(fast, told) == expected
    load = fast.engine.load()
    assert 60 < load.accepted_tokens < load.drafted_tokens


def spoilt(tokens: tuple[int, ...]) -> tuple[int, ...]:
    """Tokens with every tenth one wrong."""
    return tuple(token + 1 if place % 10 == 9 else token for place, token in enumerate(tokens))


def results(harness: Harness, requests: list[Any]) -> dict[str, Any]:
    """Tokens, text, log probabilities and finish reason of each request."""
    found: dict[str, Any] = {each.request_id: ((), "", (), None) for each in requests}
    for output in harness.run(*requests):
        if isinstance(output, Delta):
            tokens, text, logprobs, _ = found[output.request_id]
            after = tokens + output.token_ids, text + output.text, logprobs + output.logprobs
            found[output.request_id] = (*after, None)
        elif isinstance(output, Finished):
            found[output.request_id] = (*found[output.request_id][:3], output.finish_reason)
    return found


def test_every_row_of_a_short_chunk_has_the_bits_of_a_single_step(exact_model: BuiltModel) -> None:
    runner, ids = exact_model.runner, np.random.default_rng(5).integers(300, 40_000, 80)
    past = 60  # a KV block ends within the chunks
    for size in range(2, 10):
        runner.run(chunk(ids, 0, past, first_block=0))
        rows = runner.run(chunk(ids, past, past + size, first_block=0))
        together = [rows.row(at).copy() for at in range(size)]
        runner.run(chunk(ids, 0, past, first_block=8))
        for at in range(size):  # as a sequence in decode: with the token before
            end = past + at + 1
            assert np.array_equal(runner.run(chunk(ids, end - 2, end, first_block=8)).row(1), together[at])


def chunk(ids: Any, past: int, end: int, *, first_block: int) -> Batch:
    """A batch of one run, with the logits of each of its tokens."""
    blocks = np.arange(first_block, first_block + -(-end // 32), dtype=np.int32)
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
