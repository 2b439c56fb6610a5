"""Overlapped steps give what serial steps give, in cases chosen by hand."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from infermesh_engine.requests.output import Delta, Failed, Finished
from infermesh_engine.requests.request import (
    Continuation,
    GenerationRequest,
    OutputFormat,
    SamplingParams,
    StopConditions,
)
from infermesh_engine.runners.runner import Batch
from infermesh_engine.simulated.sampling_runner import SimulatedLaunch, SimulatedSamplingRunner
from infermesh_runtime.errors import Code, ResourceExhausted
from libs.engine.tests.asking import EOS, Bench, long, plain, request


@pytest.mark.parametrize(
    "one",
    [
        request("drawn", long(2, 40), seed=3, logprobs=2),
        request("penalised", long(3, 17), sampling=SamplingParams(repetition_penalty=1.3, presence_penalty=0.5)),
        request("three", long(5, 30), n=3, max_tokens=11),
        request(
            "shaped",
            long(6, 20),
            output_format=OutputFormat(kind="regex", spec="[ab]{3,40}c"),
            stop=StopConditions(strings=("baab", "bbb"), max_tokens=35, min_tokens=6),
        ),
    ],
    ids=lambda one: one.request_id,
)
@pytest.mark.parametrize("guesses", [0, 3])
def test_a_continuation_at_every_index_equals_the_undisturbed_stream(
    make_bench: Bench, make_ahead: Bench, one: GenerationRequest, guesses: int
) -> None:
    alone = plain(make_bench(prefix_caching=False).finish(one))
    engine = make_ahead(max_batched_tokens=64, guesses=guesses).engine
    engine.submit(one)
    outputs: list[Any] = []
    cuts = []
    while engine.has_work:
        outputs += engine.step()
        cuts.append(list(outputs))
    for cut in cuts:
        ended = {o.choice for o in cut if isinstance(o, Finished)}
        tokens = {
            choice: tuple(t for o in cut if isinstance(o, Delta) and o.choice == choice for t in o.token_ids)
            for choice in range(one.n)
        }
        generated = tuple(
            Continuation(choice=choice, token_ids=ids, finished=choice in ended)
            for choice, ids in tokens.items()
            if ids
        )
        if len(ended) == one.n:
            continue
        after = make_ahead(max_batched_tokens=16, guesses=guesses).finish(
            replace(one, request_id="c", generated=generated)
        )
        for choice in set(range(one.n)) - ended:
            assert tokens[choice] + after["c", choice].token_ids == alone[one.request_id, choice][0]
            assert after["c", choice].finished.completion_tokens == alone[one.request_id, choice][3].completion_tokens


def test_a_sequence_that_does_not_fit_alone_fails_after_its_tokens_and_the_others_go_on(make_bench: Bench) -> None:
    class Small(SimulatedSamplingRunner):
        def launch(self, batch: Batch) -> SimulatedLaunch:
            if batch.max_context_tokens > 30:
                raise ResourceExhausted("out of device memory")
            return super().launch(batch)

    engine = make_bench(runner=Small).engine
    engine.submit(request("long", long(0, 25), n=2))
    engine.submit(request("short"))
    outputs = []
    while engine.has_work:
        outputs += engine.step()
    (failed,) = [o for o in outputs if isinstance(o, Failed)]
    assert (failed.request_id, failed.error.code) == ("long", Code.RESOURCE_EXHAUSTED)
    assert [o.request_id for o in outputs if isinstance(o, Finished)] == ["short"]
    tokens = sum(isinstance(o, Delta) and (o.request_id, o.choice) == ("long", 0) for o in outputs)
    assert tokens == 6  # the last of them computed nothing any more
    assert engine.load().kv_cache_usage == 0


def test_an_end_that_comes_late_is_the_end(make_bench: Bench, make_ahead: Bench) -> None:
    """The token from the launch made in the meantime is dropped and not counted."""
    force = SamplingParams(logit_bias={EOS: 100})
    bench = make_ahead()
    ended = bench.finish(request("ended", sampling=force, stop=StopConditions(min_tokens=4)), request("other"))
    assert ended["ended", 0].token_ids[4:] == (EOS,)
    assert ended["ended", 0].finished.completion_tokens == 5
    load = bench.engine.load()
    assert (load.generated_tokens, load.kv_cache_usage) == (5 + 20, 0)
    sync = make_bench()
    sync.finish(request("ended", sampling=force, stop=StopConditions(min_tokens=4)), request("other"))
    assert sync.engine.load().generated_tokens == load.generated_tokens


def test_max_tokens_launches_no_step_too_many(make_bench: Bench) -> None:
    sizes = []

    class Counting(SimulatedSamplingRunner):
        def launch(self, batch: Batch) -> SimulatedLaunch:
            sizes.append(len(batch.token_ids))
            return super().launch(batch)

    make_bench(runner=Counting).finish(request(max_tokens=4))
    assert sizes == [3, 1, 1, 1]


def test_cancelled_in_flight_and_asked_again_under_the_same_id(make_ahead: Bench, make_bench: Bench) -> None:
    bench = make_ahead()
    bench.engine.submit(request("r", long(0, 9)))
    bench.step()
    bench.step()
    before = len(bench.choices["r", 0].token_ids)
    assert before == 1
    bench.engine.cancel("r")
    assert bench.engine.load().kv_cache_usage == 0
    assert bench.engine.has_work  # a launch has not landed
    bench.choices.clear()
    assert plain(bench.finish(request("r", long(1, 9)))) == plain(make_bench().finish(request("r", long(1, 9))))


def test_what_a_grammar_raises_ends_that_request_only(make_ahead: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    from infermesh_engine.sampling.grammars.grammar import GrammarState

    constrained = request("bad", n=2, output_format=OutputFormat(kind="regex", spec="[a-z]+"))
    alone = make_ahead().finish(request("good"))
    for broken in ("allowed_bits", "consume"):
        with monkeypatch.context() as patch:
            patch.setattr(GrammarState, broken, lambda *_: [].pop())
            engine = make_ahead().engine
            engine.submit(request("good"))
            engine.submit(constrained)
            outputs = []
            while engine.has_work:
                outputs += engine.step()
        (failed,) = [output for output in outputs if output.request_id == "bad"]
        assert isinstance(failed, Failed)
        assert failed.error.message == "Internal error in the engine."  # the log has the reason
        good = [output for output in outputs if isinstance(output, Delta)]
        assert tuple(token for delta in good for token in delta.token_ids) == alone["good", 0].token_ids
        assert engine.load().kv_cache_usage == 0


def test_blocks_are_found_again_by_the_next_turn(make_ahead: Bench, make_bench: Bench) -> None:
    bench = make_ahead()
    answer = bench.finish(request("turn 1", long(0, 10), max_tokens=23))["turn 1", 0].token_ids
    turn_2 = request("turn 2", (*long(0, 10), *answer, 5, 6))
    again = bench.finish(turn_2)["turn 2", 0]
    assert again.finished.cached_tokens == 32
    assert again.token_ids == make_bench(prefix_caching=False).finish(turn_2)["turn 2", 0].token_ids


def test_the_device_does_not_wait_for_the_host(make_ahead: Bench) -> None:
    """Decode steps take only the device's time, although the host takes nearly as long between them."""
    bench = make_ahead(base_itl_s=0.01, slope_itl_s=0.0, prefill_tokens_per_s=1e9)
    clock = bench.engine._runner._clock
    bench.engine.submit(request(max_tokens=11))
    while bench.engine.has_work:
        bench.step()
        clock.sleep(0.009)
    assert clock() < 11 * 0.0101 + 2 * 0.009
    assert bench.engine.load().decode_tokens_per_s == pytest.approx(100, rel=0.15)
    assert np.isfinite(bench.engine.load().prefill_tokens_per_s)
