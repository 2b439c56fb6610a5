"""Random requests and faults: overlapped steps give what serial steps give."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from infermesh_engine.requests.output import Failed
from infermesh_engine.requests.request import GenerationRequest, OutputFormat, SamplingParams, StopConditions
from infermesh_engine.runners.runner import Batch
from infermesh_engine.runners.sampling_runner import SampledRows, SamplingBatch
from infermesh_engine.simulated.sampling_runner import SimulatedLaunch, SimulatedSamplingRunner
from infermesh_runtime.errors import ResourceExhausted
from libs.engine.tests.asking import plain

Bench = Callable[..., Any]
EOS = 256


def sampling(draw: st.DrawFn) -> SamplingParams:
    return SamplingParams(
        temperature=draw(st.sampled_from([0.0, 1.0, 3.0])),
        top_k=draw(st.sampled_from([0, 0, 5, 100])),
        top_p=draw(st.sampled_from([1.0, 1.0, 0.8])),
        min_p=draw(st.sampled_from([0.0, 0.0, 0.1])),
        repetition_penalty=draw(st.sampled_from([1.0, 1.0, 1.4])),
        presence_penalty=draw(st.sampled_from([0.0, 0.0, 0.7])),
        frequency_penalty=draw(st.sampled_from([0.0, 0.0, 0.4])),
        # <eos> comes now and then, so that sequences end in the midst of a launch
        logit_bias={EOS: draw(st.sampled_from([6.0, 7.5])), 66: 5.0} if draw(st.booleans()) else {},
    )


def stop(draw: st.DrawFn) -> StopConditions:
    return StopConditions(
        strings=draw(st.sampled_from([(), ("a",), ("b", "cd"), ("e", "f", "g", "h")])),
        token_ids=draw(st.sampled_from([(), (70, 71, 72)])),
        max_tokens=draw(st.integers(1, 14)),
        min_tokens=draw(st.sampled_from([0, 0, 4])),
        ignore_eos=draw(st.booleans()),
    )


FORMATS = [
    None,
    None,
    None,
    OutputFormat(kind="regex", spec="[ab]{3,9}c"),
    OutputFormat(kind="regex", spec="(yes|no)+"),
]


@dataclass(frozen=True)
class Arrival:
    request: GenerationRequest
    step: int
    cancelled_after: int | None


@st.composite
def arrivals(draw: st.DrawFn) -> list[Arrival]:
    made = []
    for number in range(draw(st.integers(1, 6))):
        letter = draw(st.integers(0, 1))  # few different prompts, so that prefixes are shared
        request = GenerationRequest(
            request_id=str(number),
            prompt_token_ids=tuple((letter + i // 5) % 256 for i in range(draw(st.integers(1, 35)))),
            seed=draw(st.integers(0, 3)),
            n=draw(st.sampled_from([1, 1, 2, 3])),
            priority=draw(st.integers(-1, 1)),
            sampling=sampling(draw),
            stop=stop(draw),
            output_format=draw(st.sampled_from(FORMATS)),
            logprobs=draw(st.sampled_from([None, None, 0, 3])),
        )
        cancelled_after = draw(st.one_of(st.none(), st.none(), st.integers(0, 20)))
        made.append(Arrival(request, draw(st.integers(0, 15)), cancelled_after))
    return made


class FailingRunner(SimulatedSamplingRunner):
    """Runs out of memory when told to. What a failed launch computed cannot be read."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.faults: Iterator[str] = iter(())

    def launch(self, batch: Batch) -> Any:
        fault = next(self.faults, "")
        if fault == "launch":
            raise ResourceExhausted("out of device memory")
        before = self._runner._written.copy()
        return FailingLaunch(super().launch(batch), fault, lambda: self._forget(before))

    def _forget(self, before: NDArray[np.bool_]) -> None:
        """Forgets the KV written since then, also by the next launch. Tokens fed again had the same bits before."""
        self._runner._written &= before


class FailingLaunch:
    def __init__(self, launch: SimulatedLaunch, fault: str, forget: Callable[[], None]) -> None:
        self._launch = launch
        self._fault = fault
        self._forget = forget

    def sample(self, sampling: SamplingBatch) -> None:
        if self._fault == "sample":
            raise ResourceExhausted("out of device memory")
        self._launch.sample(sampling)

    def wait(self) -> SampledRows:
        if self._fault == "wait":
            self._forget()
            raise ResourceExhausted("out of device memory")
        return self._launch.wait()


def play(bench: Any, arrivals: list[Arrival]) -> None:
    step, last = 0, max(arrival.step for arrival in arrivals)
    while step <= last or bench.engine.has_work:
        for arrival in arrivals:
            if arrival.step == step:
                bench.engine.submit(arrival.request)
            if arrival.cancelled_after is not None and arrival.step + arrival.cancelled_after == step:
                bench.engine.cancel(arrival.request.request_id)
        bench.step()
        step += 1
        assert step < 3000, "the engine does not come to an end"
    load = bench.engine.load()
    assert (load.running, load.waiting, load.waiting_tokens, load.kv_cache_usage) == (0, 0, 0, 0)


def compare(make_bench: Bench, bench: Any, arrivals: list[Arrival]) -> None:
    """Each request gives what it gives alone in serial steps; a cancelled one, as far as it goes."""
    for arrival in arrivals:
        alone = make_bench(prefix_caching=False, max_sequences=1, num_blocks=64).finish(arrival.request)
        for key, expected in plain(alone).items():
            got = bench.choices.get(key)
            if arrival.cancelled_after is None or (got is not None and got.finished is not None):
                assert plain({key: got})[key] == expected
            elif got is not None:
                assert expected[0][: len(got.token_ids)] == got.token_ids


LIMITS = {
    "num_blocks": st.integers(13, 30),  # the longest request, 35 + 14 tokens, fits 13 blocks of 4
    "max_sequences": st.integers(1, 6),
    "max_batched_tokens": st.integers(6, 40),
    "prefix_caching": st.booleans(),
    "min_run_tokens": st.integers(1, 2),
    "guesses": st.sampled_from([0, 1, 5]),
    "speculation": st.sampled_from(["always", "auto"]),
}


@settings(max_examples=80, deadline=None)
@given(arrivals=arrivals(), **LIMITS)
def test_whatever_comes_is_answered_as_the_synchronous_engine_does(
    make_bench: Bench, make_ahead: Bench, arrivals: list[Arrival], **limits: Any
) -> None:
    bench = make_ahead(**limits)
    play(bench, arrivals)
    compare(make_bench, bench, arrivals)


@settings(max_examples=80, deadline=None)
@given(arrivals=arrivals(), faults=st.data(), **LIMITS)
def test_memory_that_runs_out_anywhere_changes_nothing(
    make_bench: Bench, arrivals: list[Arrival], faults: st.DataObject, **limits: Any
) -> None:
    rates = st.sampled_from(["", "", "", "", "launch", "sample", "wait"])
    # two in a row could meet a sequence alone, which is then rightly refused: that is another test
    drawn = faults.draw(st.lists(rates, max_size=40))
    bench = make_bench(runner=FailingRunner, **limits)
    runner = bench.engine._runner
    runner.faults = iter(drawn)
    failed: set[str] = set()
    step_of = bench.engine.step

    def step() -> list[Any]:
        outputs = step_of()
        failed.update(o.request_id for o in outputs if isinstance(o, Failed))
        return [o for o in outputs if not isinstance(o, Failed)]

    bench.engine.step = step
    play(bench, arrivals)
    compare(make_bench, bench, [a for a in arrivals if a.request.request_id not in failed])
    for arrival in arrivals:
        if arrival.request.request_id in failed:
            compare(make_bench, bench, [replace(arrival, cancelled_after=arrival.cancelled_after or 0)])
