"""A prompt's tokens get the log probabilities that the model gives each of them, however the prompt is computed."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from infermesh_engine.engine import Engine, EngineConfig
from infermesh_engine.requests.output import Delta, Failed, Finished, Output, PromptLogprobs
from infermesh_engine.requests.request import GenerationRequest, SamplingParams, StopConditions
from infermesh_engine.runners.runner import SCORED_ROWS, Batch, Logits
from infermesh_engine.simulated.runner import SimulatedOptions, SimulatedRunner, VirtualClock
from infermesh_engine.simulated.sampling_runner import SimulatedSamplingRunner

RUNNERS = [SimulatedRunner, SimulatedSamplingRunner]
TOP = 3


def make_engine(runner: Any, tokenizer: Tokenizer, *, min_run_tokens: int = 1, **config: Any) -> Engine:
    clock = VirtualClock()
    options = SimulatedOptions(
        vocab_size=257, block_size=4, num_blocks=256, context_length=512, min_run_tokens=min_run_tokens
    )
    device = runner(options, clock=clock, sleep=clock.sleep)
    return Engine(device, tokenizer, frozenset(), EngineConfig(**config), clock)


def make_request(name: str, prompt: tuple[int, ...], tokens: int = 3, **fields: Any) -> GenerationRequest:
    stop = StopConditions(max_tokens=tokens, ignore_eos=True)
    params = SamplingParams(temperature=0)
    return GenerationRequest(request_id=name, prompt_token_ids=prompt, seed=1, stop=stop, sampling=params, **fields)


def run(engine: Engine, *requests: GenerationRequest) -> list[Output]:
    for each in requests:
        engine.submit(each)
    outputs: list[Output] = []
    for _ in range(5000):
        if not engine.has_work:
            return outputs
        outputs += engine.step()
    raise AssertionError("the engine does not finish")


def scores_of(outputs: list[Output], name: str) -> PromptLogprobs:
    (scores,) = [o for o in outputs if isinstance(o, PromptLogprobs) and o.request_id == name]
    first = next(o for o in outputs if o.request_id == name)
    assert first is scores, "the scores come before the first token"
    return scores


def expected(tokenizer: Tokenizer, prompt: tuple[int, ...]) -> list[tuple[int, float]]:
    """Each token's log probability, read from the alternatives of the prompt cut off before it."""
    logits = SimulatedOptions(
        vocab_size=257, block_size=4, num_blocks=256, context_length=512, prefill_tokens_per_s=1e9
    )
    runner = SimulatedRunner(logits, clock=(clock := VirtualClock()), sleep=clock.sleep)
    count = len(prompt)
    blocks = -(-count // 4)
    rows = np.arange(count - 1, dtype=np.int32)
    result = runner.run(
        Batch(
            token_ids=np.array(prompt),
            positions=np.arange(count),
            past_lens=np.zeros(1, np.int32),
            begins=np.array([0, count], np.int32),
            blocks=np.arange(blocks, dtype=np.int32),
            block_begins=np.array([0, blocks], np.int32),
            max_context_tokens=count,
            rows=rows,
            inverse_temperatures=np.ones(count - 1, np.float32),
        )
    )
    return [
        (prompt[row + 1], float(result.row(row)[prompt[row + 1]] - result.logsumexp[row])) for row in range(count - 1)
    ]


def check(scores: PromptLogprobs, tokenizer: Tokenizer, prompt: tuple[int, ...]) -> None:
    assert [entry.token_id for entry in scores.logprobs] == list(prompt)
    for entry, (token_id, logprob) in zip(scores.logprobs[1:], expected(tokenizer, prompt), strict=True):
        assert entry.token_id == token_id
        assert entry.logprob == pytest.approx(logprob, abs=1e-4)
        assert len(entry.top) == TOP
        assert entry.top[0].logprob >= entry.logprob - 1e-5
    assert len(scores.ranks) == len(prompt)


LONG = tuple(int(i) for i in np.random.default_rng(0).integers(0, 256, SCORED_ROWS + 57))


@pytest.mark.parametrize("runner", RUNNERS)
@pytest.mark.parametrize("length", [1, 2, 9, SCORED_ROWS + 1, len(LONG)])
@pytest.mark.parametrize("min_run_tokens", [1, 2])
def test_every_token_of_a_prompt_is_scored(
    runner: Any, length: int, min_run_tokens: int, byte_tokenizer: Tokenizer
) -> None:
    engine = make_engine(runner, byte_tokenizer, min_run_tokens=min_run_tokens)
    prompt = LONG[:length]
    plain = run(engine, make_request("plain", prompt))
    outputs = run(engine, make_request("scored", prompt, prompt_logprobs=TOP))  # the prefix cache has it all
    if length > 1:
        check(scores_of(outputs, "scored"), byte_tokenizer, prompt)
    assert tokens_of(outputs, "scored") == tokens_of(plain, "plain")


@pytest.mark.parametrize("runner", RUNNERS)
def test_others_run_beside_scored_prompts(runner: Any, byte_tokenizer: Tokenizer) -> None:
    engine = make_engine(runner, byte_tokenizer, max_batched_tokens=40, max_sequences=8)
    names = [f"r{i}" for i in range(6)]
    requests = [
        make_request(name, LONG[i : i + 70], tokens=12, prompt_logprobs=TOP if i % 2 else None, logprobs=2)
        for i, name in enumerate(names)
    ]
    outputs = run(engine, *requests)
    alone = make_engine(runner, byte_tokenizer)
    for i, name in enumerate(names):
        if i % 2:
            check(scores_of(outputs, name), byte_tokenizer, LONG[i : i + 70])
        plain = run(alone, make_request(name, LONG[i : i + 70], tokens=12))
        assert tokens_of(outputs, name) == tokens_of(plain, name)


@pytest.mark.parametrize("runner", RUNNERS)
def test_choices_share_a_scored_prompt(runner: Any, byte_tokenizer: Tokenizer) -> None:
    engine = make_engine(runner, byte_tokenizer)
    outputs = run(engine, make_request("a", LONG[:30], n=3, prompt_logprobs=TOP))
    check(scores_of(outputs, "a"), byte_tokenizer, LONG[:30])
    assert len([o for o in outputs if isinstance(o, Finished)]) == 3


@pytest.mark.parametrize("runner", RUNNERS)
def test_a_step_has_a_bounded_number_of_rows(runner: Any, byte_tokenizer: Tokenizer) -> None:
    engine = make_engine(runner, byte_tokenizer)
    device: Any = engine._runner
    most = 0
    name = "run" if runner is SimulatedRunner else "launch"
    inner: Callable[[Batch], Logits] = getattr(device, name)

    def watch(batch: Batch) -> Logits:
        nonlocal most
        most = max(most, len(batch.rows))
        return inner(batch)

    setattr(device, name, watch)
    run(engine, *(make_request(f"r{i}", LONG, prompt_logprobs=TOP) for i in range(4)))
    assert SCORED_ROWS <= most <= SCORED_ROWS + 4


def test_the_time_of_prompt_and_output_is_told(byte_tokenizer: Tokenizer) -> None:
    engine = make_engine(SimulatedRunner, byte_tokenizer, max_batched_tokens=50, max_sequences=2)
    (end,) = [o for o in run(engine, make_request("a", LONG[:100], tokens=11)) if isinstance(o, Finished)]
    assert end.timings is not None
    assert (end.timings.prompt_tokens, end.timings.completion_tokens) == (100, 11)
    assert end.timings.prompt_ms == pytest.approx(10, abs=1)  # 10,000 tokens/s
    assert end.timings.completion_ms == pytest.approx(10 * 7.5, abs=1)
    (again,) = [o for o in run(engine, make_request("b", LONG[:100], tokens=2)) if isinstance(o, Finished)]
    assert again.timings is not None
    assert again.timings.prompt_tokens == 100 - again.cached_tokens < 100


def tokens_of(outputs: list[Output], name: str) -> list[int]:
    assert not any(isinstance(output, Failed) for output in outputs)
    return [i for o in outputs if isinstance(o, Delta) and o.request_id == name for i in o.token_ids]
