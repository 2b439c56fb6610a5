"""Random arrivals and cancels give what each request gives alone."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from infermesh_engine.requests.request import GenerationRequest, SamplingParams, StopConditions


@dataclass(frozen=True)
class Arrival:
    """A request, the step before which it arrives, and how many steps later it is cancelled, if at all."""

    request: GenerationRequest
    step: int
    cancelled_after: int | None


@st.composite
def arrivals(draw: st.DrawFn) -> list[Arrival]:
    made = []
    for number in range(draw(st.integers(1, 7))):
        letter = draw(st.integers(0, 1))  # few different prompts, so that prefixes are shared
        prompt = tuple((letter + i // 5) % 256 for i in range(draw(st.integers(1, 35))))
        request = GenerationRequest(
            request_id=str(number),
            prompt_token_ids=prompt,
            seed=draw(st.integers(0, 3)),
            n=draw(st.integers(1, 3)),
            priority=draw(st.integers(-1, 1)),
            sampling=SamplingParams(temperature=draw(st.sampled_from([0.0, 1.0]))),
            stop=StopConditions(max_tokens=draw(st.integers(1, 12))),
        )
        cancelled_after = draw(st.one_of(st.none(), st.none(), st.integers(0, 20)))
        made.append(Arrival(request, draw(st.integers(0, 15)), cancelled_after))
    return made


@settings(max_examples=80, deadline=None)
@given(
    arrivals=arrivals(),
    num_blocks=st.integers(12, 30),
    max_sequences=st.integers(1, 6),
    max_batched_tokens=st.integers(6, 40),
    prefix_caching=st.booleans(),
    min_run_tokens=st.integers(1, 2),
    guesses=st.sampled_from([0, 3]),
)
def test_whatever_comes_everything_ends_as_if_alone(
    make_bench: Callable[..., Any], arrivals: list[Arrival], **limits: Any
) -> None:
    bench = make_bench(**limits)
    step, last = 0, max(arrival.step for arrival in arrivals)
    while step <= last or bench.engine.has_work:
        for arrival in arrivals:
            if arrival.step == step:
                bench.engine.submit(arrival.request)
            if arrival.cancelled_after is not None and arrival.step + arrival.cancelled_after == step:
                bench.engine.cancel(arrival.request.request_id)
        bench.step()
        step += 1
        assert step < 2000, "the engine does not come to an end"
    load = bench.engine.load()
    assert (load.running, load.waiting, load.waiting_tokens, load.kv_cache_usage) == (0, 0, 0, 0)
    for arrival in arrivals:
        _compare(make_bench, bench, arrival)


def _compare(make_bench: Callable[..., Any], bench: Any, arrival: Arrival) -> None:
    """The outputs equal those of the request alone; if it was cancelled, as far as they go."""
    request = arrival.request
    alone = make_bench(prefix_caching=False, max_sequences=1, num_blocks=64).finish(request)
    for key, expected in alone.items():
        got = bench.choices.get(key)
        if arrival.cancelled_after is None or (got is not None and got.finished is not None):
            assert got is not None
            assert (got.token_ids, got.text) == (expected.token_ids, expected.text)
            assert got.finished.finish_reason == expected.finished.finish_reason
            assert got.finished.completion_tokens == len(expected.token_ids)
            assert got.finished.prompt_tokens == (len(request.prompt_token_ids) if key[1] == 0 else 0)
        elif got is not None:
            assert expected.token_ids[: len(got.token_ids)] == got.token_ids
