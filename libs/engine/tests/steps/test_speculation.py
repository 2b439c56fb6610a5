"""Steps that guess tokens ahead: what they save, what they count, and when they do not guess."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from infermesh_engine.requests.request import GenerationRequest, SamplingParams, StopConditions
from infermesh_engine.runners.runner import Batch, Logits, ModelRunner
from infermesh_runtime.errors import ResourceExhausted

Make = Callable[..., Any]


def request(name: str = "r", *, tokens: int = 24, **fields: Any) -> GenerationRequest:
    stop = StopConditions(max_tokens=tokens, ignore_eos=True)
    asked: dict[str, Any] = {"prompt_token_ids": (1, 2, 3, 4, 5), "seed": 7, "stop": stop} | fields
    return GenerationRequest(request_id=name, **asked)


def steps_of(bench: Any, *requests: GenerationRequest) -> int:
    for each in requests:
        bench.engine.submit(each)
    steps = 0
    while bench.engine.has_work:
        bench.step()
        steps += 1
    return steps


@pytest.fixture
def expected(make_bench: Make) -> tuple[int, ...]:
    """What the request gives."""
    tokens: tuple[int, ...] = make_bench().finish(request())["r", 0].token_ids
    return tokens


def test_a_right_prediction_saves_steps(make_bench: Make, expected: tuple[int, ...]) -> None:
    bench = make_bench(guesses=5)
    steps = steps_of(bench, request(prediction=expected))
    choice, load = bench.choices["r", 0], bench.engine.load()
    assert choice.token_ids == expected
    assert steps == 1 + -(-23 // 6)  # the prompt, then six tokens a step
    timings = choice.finished.timings
    assert timings.accepted_tokens == choice.finished.accepted_prediction_tokens == load.accepted_tokens
    assert timings.drafted_tokens == load.drafted_tokens == timings.accepted_tokens
    assert choice.finished.rejected_prediction_tokens == 0
    assert load.generated_tokens == 24


def test_wrong_guesses_are_counted_and_leave_nothing_behind(make_bench: Make, expected: tuple[int, ...]) -> None:
    wrong = expected[:3] + tuple((token + 1) % 256 for token in expected[3:])
    bench = make_bench(guesses=8)
    bench.finish(request(prediction=wrong))
    end = bench.choices["r", 0]
    assert end.token_ids == expected
    counts = end.finished.accepted_prediction_tokens, end.finished.rejected_prediction_tokens
    assert counts == (2, 6)  # then it is given up
    again = bench.finish(request("again"))["again", 0]  # from the prefix cache, which must hold right tokens only
    assert again.token_ids == expected
    liar = request("liar", prompt_token_ids=(1, 2, 3, 4, 5, *wrong), tokens=3)
    assert bench.finish(liar)["liar", 0].token_ids == make_bench().finish(liar)["liar", 0].token_ids
    assert bench.choices["liar", 0].finished.cached_tokens == 8
    next_turn = request("turn", prompt_token_ids=(1, 2, 3, 4, 5, *expected), tokens=3)
    assert bench.finish(next_turn)["turn", 0].finished.cached_tokens == 28


def test_one_delta_a_step_and_choice(make_bench: Make, expected: tuple[int, ...]) -> None:
    bench = make_bench(guesses=5)
    bench.engine.submit(request(prediction=expected))
    bench.step()
    outputs = bench.engine.step()
    assert [output.token_ids for output in outputs] == [expected[1:7]]


def test_no_guess_goes_beyond_the_last_token(make_bench: Make, expected: tuple[int, ...]) -> None:
    bench = make_bench(guesses=8, context_length=24)
    bench.finish(request(tokens=100, prediction=expected))
    assert bench.choices["r", 0].token_ids == expected[:19]


class FewTokens:
    """A runner whose device fits only batches up to a number of tokens."""

    def __init__(self, runner: ModelRunner, most: int) -> None:
        self._runner = runner
        self._most = most
        self.refused = 0
        self.info = runner.info
        self.memory_free_bytes = runner.memory_free_bytes
        self.close = runner.close

    def run(self, batch: Batch) -> Logits:
        if len(batch.token_ids) > self._most:
            self.refused += 1
            raise ResourceExhausted("out of device memory")
        return self._runner.run(batch)


def test_guesses_that_do_not_fit_the_device_are_given_up(make_bench: Make, expected: tuple[int, ...]) -> None:
    bench = make_bench(guesses=8, wrap=lambda runner: FewTokens(runner, 5))
    bench.finish(request(prediction=expected))
    assert bench.choices["r", 0].token_ids == expected
    assert bench.engine.load().drafted_tokens == 0


def test_guesses_are_tried_again_after_a_pause(make_bench: Make) -> None:
    long = request(tokens=80)
    told = replace(long, prediction=make_bench().finish(long)["r", 0].token_ids)
    bench = make_bench(guesses=8, wrap=lambda runner: FewTokens(runner, 5))
    assert bench.finish(told)["r", 0].token_ids == told.prediction
    assert bench.engine._runner.refused == 3  # before the decodes 1, 33 and 65


def test_guesses_preempt_nobody(make_bench: Make) -> None:
    requests = [request(str(seed), seed=seed, sampling=SamplingParams(temperature=1)) for seed in range(4)]
    alone = [make_bench().finish(each)[each.request_id, 0].token_ids for each in requests]
    told = [replace(each, prediction=tokens) for each, tokens in zip(requests, alone, strict=True)]
    blocks = 4 * 8  # just enough for all four
    bench = make_bench(guesses=8, num_blocks=blocks, prefix_caching=False)
    bench.finish(*told)
    assert bench.engine.load().preemptions == 0
    assert bench.engine.load().accepted_tokens > 40


def test_a_runner_that_cannot_check_guesses_gets_none(make_bench: Make, expected: tuple[int, ...]) -> None:
    bench = make_bench(guesses=8, checks_drafts=False)
    bench.finish(request(prediction=expected))
    assert bench.engine.load().drafted_tokens == 0


def test_an_engine_tells_whether_it_guesses(make_bench: Make, make_ahead: Make) -> None:
    assert make_bench(guesses=8).engine.guesses_ahead
    assert not make_bench(guesses=0).engine.guesses_ahead
    assert not make_bench(guesses=8, checks_drafts=False).engine.guesses_ahead
    assert make_ahead(guesses=8).engine.guesses_ahead
    assert not make_ahead(guesses=8, checks_drafts=False).engine.guesses_ahead


def auto(make_bench: Make, *, prefill_tokens_per_s: float) -> tuple[float, Any]:
    """Seconds of 400 tokens of a right prediction on a device, and the engine's load at the end."""
    long = request(tokens=400)
    tokens = make_bench().finish(long)["r", 0].token_ids
    bench = make_bench(speculation="auto", guesses=8, prefill_tokens_per_s=prefill_tokens_per_s)
    end = bench.finish(replace(long, prediction=tokens))["r", 0]
    assert end.token_ids == tokens
    return end.finished.timings.completion_ms / 1000, bench.engine.load()


def test_auto_guesses_where_it_pays(make_bench: Make) -> None:
    seconds, load = auto(make_bench, prefill_tokens_per_s=10_000)  # 0.1 ms a guess beside 7.5 ms a step
    assert seconds < 399 * 0.0075 / 4
    assert load.accepted_tokens > 300


def test_auto_stops_where_guesses_cost_more_than_they_bring(make_bench: Make) -> None:
    seconds, load = auto(make_bench, prefill_tokens_per_s=100)  # 10 ms a guess
    assert seconds < 399 * 0.0075 * 1.1
    assert load.drafted_tokens < 60
