"""With INFERMESH_NUMERICS=exact, a sequence gets the same tokens however it is batched or resumed."""

import copy
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from infermesh_engine.requests.output import Delta, Finished
from infermesh_engine.requests.request import Continuation, GenerationRequest, SamplingParams
from infermesh_engine.runners.runner import Batch, ModelRunner
from infermesh_worker.engine_process.built_model import BuiltModel
from infermesh_worker.testing.harness import Harness

SAMPLED = SamplingParams(temperature=0.8, top_p=0.95)
LONG_PROMPT = "The history of the lighthouse begins with a fire on a hill. " * 12


@pytest.fixture(params=["greedy", "sampled"])
def sampling(request: pytest.FixtureRequest) -> SamplingParams:
    return SamplingParams(temperature=0.0) if request.param == "greedy" else SAMPLED


def alone(harness: Harness, prompt: str, **fields: Any) -> tuple[int, ...]:
    return harness.tokens(harness.request("alone", prompt, **fields))["alone"]


def test_a_batch_of_mixed_lengths_equals_one_by_one(
    exact_model: BuiltModel, harness_of: Callable[..., Harness], prompts: tuple[str, ...], sampling: SamplingParams
) -> None:
    mixed = (*prompts[::3], LONG_PROMPT, LONG_PROMPT[:200])
    single = harness_of(exact_model, prefix_caching=False, max_batched_tokens=512)
    expected = {prompt: alone(single, prompt, tokens=12, sampling=sampling) for prompt in mixed}
    batched = harness_of(exact_model, prefix_caching=False, max_batched_tokens=100)
    assert batched.tokens(*(batched.request(p, p, tokens=12, sampling=sampling) for p in mixed)) == expected


def test_a_prefix_cache_hit_changes_nothing(
    exact_model: BuiltModel, harness_of: Callable[..., Harness], sampling: SamplingParams
) -> None:
    uncached = harness_of(exact_model, prefix_caching=False)
    expected = alone(uncached, LONG_PROMPT, tokens=32, sampling=sampling)
    cached = harness_of(exact_model)
    assert alone(cached, LONG_PROMPT, tokens=32, sampling=sampling) == expected
    outputs = cached.run(cached.request("again", LONG_PROMPT, tokens=32, sampling=sampling))
    assert tuple(t for o in outputs if isinstance(o, Delta) for t in o.token_ids) == expected
    assert next(o for o in outputs if isinstance(o, Finished)).cached_tokens > 0


def with_few_blocks(model: BuiltModel, count: int) -> BuiltModel:
    """The same model with a KV cache that seems to have fewer blocks: another one would take seconds to build."""
    runner: Any = copy.copy(model.runner)
    runner.info = replace(runner.info, num_blocks=count)
    return replace(model, runner=runner)


def test_preempt_and_resume_changes_nothing(
    exact_model: BuiltModel,
    harness_of: Callable[..., Harness],
    prompts: tuple[str, ...],
    sampling: SamplingParams,
) -> None:
    def answer(harness: Harness) -> dict[str, tuple[int, ...]]:
        return harness.tokens(*(harness.request(p, p, tokens=32, sampling=sampling) for p in prompts[:5]))

    models = (exact_model, with_few_blocks(exact_model, 5))  # five sequences of up to two blocks each
    roomy, crowded = (harness_of(model, prefix_caching=False) for model in models)
    assert answer(crowded) == answer(roomy)
    assert crowded.engine.load().preemptions > 0
    assert not roomy.engine.load().preemptions


def test_a_continuation_at_any_index_equals_the_plain_run(
    exact: Harness, prompts: tuple[str, ...], sampling: SamplingParams
) -> None:
    prompt, tokens = prompts[4], 24  # a KV block ends among them
    expected = alone(exact, prompt, tokens=tokens, sampling=sampling)
    continued = []
    for index in range(1, tokens):
        begun = Continuation(choice=0, token_ids=expected[:index])
        continued.append(exact.request(str(index), prompt, tokens=tokens, sampling=sampling, generated=(begun,)))
    assert exact.tokens(*continued) == {str(i): expected[i:] for i in range(1, tokens)}


def test_choices_of_one_request_do_not_depend_on_each_other(exact: Harness, prompts: tuple[str, ...]) -> None:
    def by_choice(*requests: GenerationRequest) -> dict[tuple[str, int], tuple[int, ...]]:
        tokens: defaultdict[tuple[str, int], tuple[int, ...]] = defaultdict(tuple)
        for output in exact.run(*requests):
            if isinstance(output, Delta):
                tokens[output.request_id, output.choice] += output.token_ids
        return dict(tokens)

    two = by_choice(exact.request("two", prompts[0], tokens=24, sampling=SAMPLED, n=2))
    four = by_choice(exact.request("four", prompts[0], tokens=24, sampling=SAMPLED, n=4))
    assert four["four", 0] == two["two", 0]
    assert four["four", 1] == two["two", 1]
    assert len(set(four.values())) > 1


def test_logits_are_bit_identical_however_they_are_batched(exact_model: BuiltModel) -> None:
    runner = exact_model.runner
    ids = np.random.default_rng(3).integers(300, 40_000, 70)
    whole = last_logits(runner, ids, [70], first_block=0)
    assert np.array_equal(last_logits(runner, ids, [32, 7, 31], first_block=4), whole)
    assert np.array_equal(last_logits(runner, ids, [1] + [2] * 34 + [1], first_block=8, refeed=True), whole)


def last_logits(
    runner: ModelRunner, ids: npt.NDArray[np.int64], chunks: list[int], *, first_block: int, refeed: bool = False
) -> npt.NDArray[np.float32]:
    """Logits after the last token, fed in chunks. `refeed`: a chunk of one token comes with the token before it."""
    done = 0
    for chunk in chunks:
        past = max(0, done - 1) if refeed and chunk == 1 else done
        done += chunk
        blocks = np.arange(first_block, first_block + -(-done // 32), dtype=np.int32)
        logits = runner.run(
            Batch(
                token_ids=ids[past:done],
                positions=np.arange(past, done),
                past_lens=np.array([past], np.int32),
                begins=np.array([0, done - past], np.int32),
                blocks=blocks,
                block_begins=np.array([0, len(blocks)], np.int32),
                max_context_tokens=done,
                rows=np.array([done - past - 1], np.int32),
                inverse_temperatures=np.ones(1, np.float32),
            )
        )
    return logits.row(0).copy()
