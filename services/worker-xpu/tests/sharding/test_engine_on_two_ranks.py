"""An engine on two ranks gives the tokens and log probabilities of one, with shared prefixes, choices, preemption."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tokenizers import Tokenizer, models

from infermesh_engine.requests.output import Delta
from infermesh_engine.requests.request import GenerationRequest, SamplingParams
from infermesh_worker.engine_process.built_model import BuiltModel
from tests.architectures.configs import VOCAB

if TYPE_CHECKING:
    from conftest import MakeHarness, MakePair, MakeRunner
    from infermesh_engine.runners.runner import ModelRunner
    from infermesh_worker.testing.harness import Harness

SAMPLED = SamplingParams(temperature=0.8, top_p=0.95)
Answers = dict[tuple[str, int], tuple[list[int], list[float]]]
EIGHT_BLOCKS = 8 * 32 * 3 * 2 * 2 * 16 * 4


def built(runner: ModelRunner) -> BuiltModel:
    tokenizer = Tokenizer(models.WordLevel({f"t{index}": index for index in range(VOCAB)}, unk_token="t0"))
    return BuiltModel(runner=runner, tokenizer=tokenizer, eos_token_ids=frozenset())


def requests(harness: Harness) -> list[GenerationRequest]:
    made = [
        harness.request("greedy", "t3", tokens=40, logprobs=3),
        harness.request("sampled", "t3", tokens=40, logprobs=3, sampling=SAMPLED),
        harness.request("choices", "t3", tokens=30, logprobs=3, sampling=SAMPLED, n=3),
    ]
    prompt = tuple(range(3, 73))  # all share two blocks
    return [replace(each, prompt_token_ids=(*prompt, 80 + index)) for index, each in enumerate(made)]


def crowd(harness: Harness) -> list[GenerationRequest]:
    """Five sequences that need three blocks each at their end."""
    made = (harness.request(str(i), "t3", tokens=60, logprobs=3, sampling=SAMPLED) for i in range(5))
    return [replace(each, prompt_token_ids=tuple(range(3 + i, 23 + i))) for i, each in enumerate(made)]


def answers(harness: Harness, *groups: Sequence[GenerationRequest]) -> Answers:
    """Runs the requests of each group together, one group after another."""
    found: Answers = {}
    for group in groups:
        for output in harness.run(*group):
            if isinstance(output, Delta):
                tokens, logprobs = found.setdefault((output.request_id, output.choice), ([], []))
                tokens += output.token_ids
                logprobs += [each.logprob for each in output.logprobs]
    return found


def shared(harness: Harness) -> Answers:
    first, *others = requests(harness)
    return answers(harness, [first], others)


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_tokens_and_logprobs_are_those_of_one_rank(
    name: str, pair: MakePair, alone: MakeRunner, harness_of: MakeHarness
) -> None:
    one, two = alone(name, numerics="exact"), pair(name, numerics="exact")
    expected = shared(harness_of(built(one)))
    assert len(expected) == 5
    found = harness_of(built(two))
    assert shared(found) == expected
    assert found.engine.load().cached_tokens > 0
    one.close()
    two.close()


def test_preemption_changes_nothing(pair: MakePair, alone: MakeRunner, harness_of: MakeHarness) -> None:
    one, two = (make("llama", numerics="exact", kv_cache_bytes=EIGHT_BLOCKS) for make in (alone, pair))
    roomy = harness_of(built(one), prefix_caching=False)
    expected = answers(roomy, *([each] for each in crowd(roomy)))
    crowded = harness_of(built(two), prefix_caching=False)
    assert answers(crowded, crowd(crowded)) == expected
    assert crowded.engine.load().preemptions > 0
    one.close()
    two.close()


def test_tokens_that_the_first_rank_samples_on_its_device_reach_the_other(
    pair: MakePair, alone: MakeRunner, harness_of: MakeHarness
) -> None:
    one, two = alone("llama", sampling="device"), pair("llama", sampling="device")
    assert two.info.samples
    expected, found = (shared(harness_of(built(runner))) for runner in (one, two))
    assert {key: tokens for key, (tokens, _) in found.items()} == {key: tokens for key, (tokens, _) in expected.items()}
    one.close()
    two.close()
