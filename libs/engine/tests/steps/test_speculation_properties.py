"""With guesses of any number and any quality, requests give what they give without."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from infermesh_engine.requests.request import (
    Continuation,
    GenerationRequest,
    OutputFormat,
    SamplingParams,
    StopConditions,
)
from infermesh_engine.simulated.runner import SimulatedRunner
from infermesh_engine.simulated.sampling_runner import SimulatedSamplingRunner

Make = Callable[..., Any]


@dataclass(frozen=True)
class Arrival:
    """A request, the step before which it arrives, and how many steps later it is cancelled, if at all."""

    request: GenerationRequest
    step: int
    cancelled_after: int | None
    wrong: tuple[int, ...]
    """Places of the predicted output that are wrong."""
    delivered: int
    """Tokens of choice 0 that another engine has delivered."""


SAMPLINGS = (
    SamplingParams(temperature=0),
    SamplingParams(temperature=1),
    SamplingParams(temperature=0.7, top_k=9, top_p=0.9, min_p=0.02),
    SamplingParams(temperature=0, repetition_penalty=1.3, presence_penalty=0.5, frequency_penalty=0.2),
    SamplingParams(temperature=1, logit_bias={3: 4.0, 256: 3.0}),
    SamplingParams(temperature=1, allowed_token_ids=tuple(range(60, 90)), bad_words=((70,), (71, 72))),
)
FORMATS = (None, None, None, OutputFormat(kind="regex", spec="[ab]{3,40}c"))


@st.composite
def requests(draw: st.DrawFn, number: int) -> GenerationRequest:
    letter = draw(st.integers(0, 1))  # few different prompts, so that prefixes are shared
    least = draw(st.integers(0, 6))
    return GenerationRequest(
        request_id=str(number),
        prompt_token_ids=tuple((letter + i // 5) % 256 for i in range(draw(st.integers(1, 35)))),
        seed=draw(st.integers(0, 3)),
        n=draw(st.integers(1, 3)),
        priority=draw(st.integers(-1, 1)),
        sampling=draw(st.sampled_from(SAMPLINGS)),
        output_format=draw(st.sampled_from(FORMATS)),
        logprobs=draw(st.sampled_from((None, None, 0, 3))),
        stop=StopConditions(
            strings=draw(st.sampled_from(((), ("ab", "baab"), ("e",)))),
            token_ids=draw(st.sampled_from(((), (40, 41, 42, 43, 44)))),
            max_tokens=draw(st.integers(1, 24)),
            min_tokens=least,
        ),
    )


@st.composite
def arrivals(draw: st.DrawFn) -> list[Arrival]:
    return [
        Arrival(
            draw(requests(number)),
            step=draw(st.integers(0, 8)),
            cancelled_after=draw(st.one_of(st.none(), st.none(), st.integers(0, 9))),
            wrong=tuple(draw(st.lists(st.integers(0, 20), max_size=3))),
            delivered=draw(st.sampled_from((0, 0, 0, 1, 5))),
        )
        for number in range(draw(st.integers(1, 5)))
    ]


def plain(choice: Any) -> tuple[Any, ...]:
    end = choice.finished
    return choice.token_ids, choice.text, choice.logprobs, end.finish_reason, end.stop, end.completion_tokens


def told(arrival: Arrival, tokens: tuple[int, ...]) -> GenerationRequest:
    """The request with a prediction that is mostly right, and with the tokens that it has got already."""
    guess = [(token + 1) % 256 if place in arrival.wrong else token for place, token in enumerate(tokens)]
    request = replace(arrival.request, prediction=tuple(guess))
    delivered = tokens[: min(arrival.delivered, len(tokens) - 1)]
    if delivered:
        return replace(request, generated=(Continuation(choice=0, token_ids=delivered),), prediction=tuple(guess))
    return request


@settings(max_examples=40, deadline=None)
@given(
    arrivals=arrivals(),
    num_blocks=st.integers(16, 40),
    max_sequences=st.integers(1, 6),
    max_batched_tokens=st.integers(6, 60),
    prefix_caching=st.booleans(),
    min_run_tokens=st.integers(1, 2),
    guesses=st.integers(1, 9),
    speculation=st.sampled_from(("always", "always", "auto")),
    runner=st.sampled_from((SimulatedRunner, SimulatedSamplingRunner)),
)
def test_guesses_change_nothing(make_bench: Make, arrivals: list[Arrival], **limits: Any) -> None:
    alone = [
        make_bench(prefix_caching=False, max_sequences=1, num_blocks=64).finish(arrival.request) for arrival in arrivals
    ]
    asked = [
        told(arrival, choices[arrival.request.request_id, 0].token_ids)
        for arrival, choices in zip(arrivals, alone, strict=True)
    ]
    bench = make_bench(**limits)
    step, last = 0, max(arrival.step for arrival in arrivals)
    while step <= last or bench.engine.has_work:
        for arrival, request in zip(arrivals, asked, strict=True):
            if arrival.step == step:
                bench.engine.submit(request)
            if arrival.cancelled_after is not None and arrival.step + arrival.cancelled_after == step:
                bench.engine.cancel(request.request_id)
        bench.step()
        step += 1
        assert step < 2000, "the engine does not come to an end"
    load = bench.engine.load()
    assert (load.running, load.waiting, load.waiting_tokens, load.kv_cache_usage) == (0, 0, 0, 0)
    for arrival, request, choices in zip(arrivals, asked, alone, strict=True):
        for key, expected in choices.items():
            compare(bench.choices.get(key), expected, request, cancelled=arrival.cancelled_after is not None)


def compare(got: Any, expected: Any, request: GenerationRequest, *, cancelled: bool) -> None:
    """A choice equals that of the request alone; if it was cancelled, as far as it goes."""
    known = request.generated[0].token_ids if request.generated and expected.finished.choice == 0 else ()
    if got is None or got.finished is None:
        assert cancelled
        return
    tokens, text, logprobs, *end = plain(expected)
    assert known + got.token_ids == tokens
    assert text.endswith(got.text)
    assert known or got.text == text
    assert got.logprobs == (logprobs[len(known) :] if logprobs else ())
    assert plain(got)[3:] == tuple(end)
