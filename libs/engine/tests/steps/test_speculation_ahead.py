"""Guesses on a runner that samples and is given steps ahead: what they save, and when steps overlap all the same."""

from dataclasses import replace
from typing import Any

import pytest

from infermesh_engine.requests.request import OutputFormat, SamplingParams
from infermesh_engine.steps.speculation import _PAUSE_STEPS
from libs.engine.tests.steps.test_overlapped_properties import FailingRunner
from libs.engine.tests.steps.test_speculation import Make, request, steps_of


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"sampling": SamplingParams(temperature=0)},
        {"sampling": SamplingParams(temperature=0.7, top_k=9, repetition_penalty=1.3), "logprobs": 2},
        {"output_format": OutputFormat(kind="regex", spec="[ab]{24}c")},
    ],
    ids=["drawn", "greedy", "penalties", "grammar"],
)
def test_a_right_prediction_saves_steps(make_bench: Make, make_ahead: Make, fields: dict[str, Any]) -> None:
    """Of every kind of request: the states of rows after guesses are those that the guesses lead to."""
    expected = make_bench().finish(request(**fields))["r", 0]
    bench = make_ahead(guesses=5)
    steps = steps_of(bench, request(prediction=expected.token_ids, **fields))
    choice, load = bench.choices["r", 0], bench.engine.load()
    assert (choice.token_ids, choice.text, choice.logprobs) == (expected.token_ids, expected.text, expected.logprobs)
    assert steps == 3 + -(-22 // 6)  # the prompt, one token, then six tokens a step; and one to land the last
    assert load.accepted_tokens == load.drafted_tokens == choice.finished.timings.accepted_tokens > 15


def seconds_of(make_bench: Make, make_ahead: Make, *, prediction: bool, **device: Any) -> tuple[float, Any]:
    """Seconds of 400 tokens, with a right prediction or without, and the load at the end."""
    long = request(tokens=400)
    tokens = make_bench().finish(long)["r", 0].token_ids
    bench = make_ahead(speculation="auto", guesses=8, **device)
    end = bench.finish(replace(long, prediction=tokens if prediction else ()))["r", 0]
    assert end.token_ids == tokens
    return end.finished.timings.completion_ms / 1000, bench.engine.load()


def test_auto_guesses_where_it_pays(make_bench: Make, make_ahead: Make) -> None:
    seconds, load = seconds_of(make_bench, make_ahead, prediction=True, prefill_tokens_per_s=10_000)
    assert seconds < 399 * 0.0075 / 4  # 0.1 ms a guess beside 7.5 ms a step
    assert load.accepted_tokens > 300


def test_auto_stops_where_guesses_cost_more_than_they_bring(make_bench: Make, make_ahead: Make) -> None:
    seconds, load = seconds_of(make_bench, make_ahead, prediction=True, prefill_tokens_per_s=100)
    assert seconds < 399 * 0.0075 * 1.1  # 10 ms a guess
    assert load.drafted_tokens < 60


def test_steps_overlap_while_nothing_can_be_guessed(make_ahead: Make) -> None:
    """A step that waits for tokens that it cannot guess gains nothing."""
    bench = make_ahead(speculation="auto", guesses=8)
    bench.engine.submit(request(tokens=30, sampling=SamplingParams(temperature=3)))
    launched: list[bool] = []
    steps = bench.engine._steps
    start = steps._start

    def watched(ahead: Any, outputs: Any) -> Any:
        launched.append(ahead is not None)
        return start(ahead, outputs)

    steps._start = watched
    while bench.engine.has_work:
        bench.step()
    assert bench.engine.load().drafted_tokens == 0
    assert launched.count(False) <= 2  # the first, and the last, after which there is nothing to launch


@pytest.mark.parametrize("fault", ["launch", "sample", "wait"])
@pytest.mark.parametrize("tokens", [24, 80], ids=["within-the-pause", "beyond-the-pause"])
def test_guesses_that_do_not_fit_the_device_are_given_up_for_a_while(make_bench: Make, fault: str, tokens: int) -> None:
    """The step is run again without them, also when the device tells so only as the tokens are awaited."""
    expected = make_bench().finish(request(tokens=tokens))["r", 0].token_ids
    bench = make_bench(runner=FailingRunner, guesses=5)
    bench.engine._runner.faults = iter(["", "", fault])  # the third launch is the first with guesses
    steps = steps_of(bench, request(tokens=tokens, prediction=expected))
    assert bench.choices["r", 0].token_ids == expected
    load = bench.engine.load()
    late = max(0, tokens - 2 - _PAUSE_STEPS)  # after the pause, five of six tokens are guesses
    assert load.drafted_tokens == load.accepted_tokens == pytest.approx(late * 5 / 6, abs=5 if late else 0)
    assert steps <= tokens + 2 - load.accepted_tokens
    assert (load.running, load.kv_cache_usage) == (0, 0)
