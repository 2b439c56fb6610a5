"""A request gives the same tokens however it is batched, cached, preempted or continued."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from infermesh_engine.requests.output import Delta, Failed, Finished
from infermesh_engine.requests.request import (
    Continuation,
    OutputFormat,
    SamplingParams,
    StopConditions,
)
from infermesh_engine.runners.runner import Batch, Logits, ModelRunner
from infermesh_runtime.errors import Code, ResourceExhausted
from libs.engine.tests.asking import Bench, long, request


def plain(choices: Mapping[Any, Any]) -> dict[Any, Any]:
    """Tokens, text, log probabilities and finish reason, without the counts of cached tokens."""
    return {
        key: (c.token_ids, c.text, c.logprobs, c.finished.finish_reason, c.finished.completion_tokens)
        for key, c in choices.items()
    }


MIXED = [
    request("greedy", long(1, 5), sampling=SamplingParams(temperature=0)),
    request("drawn", long(2, 40), seed=3, logprobs=2),
    request("penalised", long(3, 17), sampling=SamplingParams(repetition_penalty=1.3, presence_penalty=0.5)),
    request("filtered", long(4, 61), sampling=SamplingParams(top_k=5, top_p=0.9, min_p=0.05), max_tokens=33),
    request("three", long(5, 30), n=3, max_tokens=11),
    request("one token", (9,), max_tokens=40),
    request(
        "shaped",
        long(6, 20),
        output_format=OutputFormat(kind="regex", spec="[ab]{3,40}c"),
        stop=StopConditions(strings=("baab", "bbb"), max_tokens=35, min_tokens=6),
    ),
]


@pytest.fixture(scope="session")
def alone(make_bench: Bench) -> dict[Any, Any]:
    """What each of MIXED gives alone, prefilled in one chunk and without a cache."""
    choices: dict[Any, Any] = {}
    for one in MIXED:
        choices |= plain(make_bench(prefix_caching=False, max_sequences=1).finish(one))
    return choices


@pytest.fixture(params=[0, 3], ids=["plain", "guesses"])
def make(request: pytest.FixtureRequest, make_bench: Bench) -> Bench:
    """Builds a bench, without guesses of further tokens and with some in every step that has any."""
    return partial(make_bench, guesses=request.param)


@pytest.mark.parametrize("max_batched_tokens", [16, 17, 64, 4096])
@pytest.mark.parametrize("prefix_caching", [True, False])
def test_batched_and_chunked_equals_alone(
    make: Bench, alone: dict[Any, Any], max_batched_tokens: int, prefix_caching: bool
) -> None:
    bench = make(max_batched_tokens=max_batched_tokens, prefix_caching=prefix_caching)
    assert plain(bench.finish(*MIXED)) == alone


def test_runs_of_at_least_two_tokens_equal_alone(make: Bench, alone: dict[Any, Any]) -> None:
    assert plain(make(max_batched_tokens=16, min_run_tokens=2).finish(*MIXED)) == alone


@pytest.mark.parametrize("num_blocks", [24, 26, 30, 40])
@pytest.mark.parametrize("prefix_caching", [True, False])
def test_preempted_and_resumed_equals_alone(
    make: Bench, alone: dict[Any, Any], num_blocks: int, prefix_caching: bool
) -> None:
    bench = make(num_blocks=num_blocks, prefix_caching=prefix_caching, max_batched_tokens=32)
    assert plain(bench.finish(*MIXED)) == alone
    assert bench.engine.load().preemptions > 0
    assert bench.engine.load().kv_cache_usage == 0


def test_a_prefix_hit_equals_alone_and_is_counted(make: Bench, alone: dict[Any, Any]) -> None:
    bench = make()
    bench.finish(*MIXED)
    first = plain(bench.choices)
    bench.choices.clear()
    assert plain(bench.finish(*MIXED)) == first == alone
    assert bench.choices["filtered", 0].finished.cached_tokens == 60
    assert bench.choices["three", 0].finished.cached_tokens == 28
    assert bench.choices["three", 1].finished.cached_tokens == 0
    assert bench.engine.load().cached_tokens > 0


@pytest.mark.parametrize("which", range(len(MIXED)))
def test_a_continuation_at_every_index_equals_the_undisturbed_stream(
    make: Bench, alone: dict[Any, Any], which: int
) -> None:
    one = MIXED[which]
    bench = make(max_batched_tokens=16)
    engine = make(max_batched_tokens=64).engine
    engine.submit(one)
    steps = []
    while engine.has_work:
        steps.append(engine.step())
    for index in range(1, len(steps)):
        bench.choices.clear()
        delivered: dict[int, list[Any]] = {choice: [] for choice in range(one.n)}
        for output in (output for step in steps[:index] for output in step):
            delivered[output.choice].append(output)
        before = {c: [o for o in outputs if isinstance(o, Delta)] for c, outputs in delivered.items()}
        generated = tuple(
            Continuation(
                choice=choice,
                token_ids=tuple(token for delta in deltas for token in delta.token_ids),
                finished=len(deltas) < len(delivered[choice]),
            )
            for choice, deltas in before.items()
            if deltas
        )
        after = bench.finish(replace(one, request_id="c", generated=generated))
        for choice, deltas in before.items():
            if len(deltas) < len(delivered[choice]):
                assert ("c", choice) not in after
                continue
            token_ids, text, logprobs, reason, completion_tokens = alone[one.request_id, choice]
            end = after["c", choice]
            assert tuple(t for d in deltas for t in d.token_ids) + end.token_ids == token_ids
            assert "".join(d.text for d in deltas) + end.text == text
            assert tuple(p for d in deltas for p in d.logprobs) + end.logprobs == logprobs
            assert (end.finished.finish_reason, end.finished.completion_tokens) == (reason, completion_tokens)


def test_cancel_frees_blocks_at_once_and_disturbs_nobody(make: Bench, alone: dict[Any, Any]) -> None:
    bench = make(max_batched_tokens=32)
    for one in MIXED:
        bench.engine.submit(one)
        bench.engine.submit(replace(one, request_id=f"cancelled {one.request_id}", n=2))
    for _ in range(12):
        bench.step()
    for one in MIXED:
        bench.engine.cancel(f"cancelled {one.request_id}")
    bench.engine.cancel("unknown")
    seen = {key: c for key, c in bench.choices.items() if key[0].startswith("cancelled")}
    counts = {key: len(c.token_ids) for key, c in seen.items()}
    bench.finish()
    assert {key: len(c.token_ids) for key, c in seen.items()} == counts
    assert plain({key: c for key, c in bench.choices.items() if key not in seen}) == alone


class SmallRunner:
    """A runner whose device fits only batches up to a number of tokens, or up to a context length."""

    def __init__(self, runner: ModelRunner, *, batch_tokens: int, context_tokens: int = 10_000) -> None:
        self._runner = runner
        self._batch_tokens = batch_tokens
        self._context_tokens = context_tokens
        self.info = runner.info
        self.memory_free_bytes = runner.memory_free_bytes
        self.close = runner.close

    def run(self, batch: Batch) -> Logits:
        if len(batch.token_ids) > self._batch_tokens or batch.max_context_tokens > self._context_tokens:
            raise ResourceExhausted("out of device memory")
        return self._runner.run(batch)


@pytest.mark.parametrize("batch_tokens", [1, 3, 20])
def test_a_device_out_of_memory_gets_smaller_batches(make: Bench, alone: dict[Any, Any], batch_tokens: int) -> None:
    bench = make(wrap=lambda runner: SmallRunner(runner, batch_tokens=batch_tokens))
    assert plain(bench.finish(*MIXED)) == alone


def test_a_sequence_that_does_not_fit_alone_fails_and_the_others_go_on(make: Bench) -> None:
    engine = make(wrap=lambda runner: SmallRunner(runner, batch_tokens=100, context_tokens=30)).engine
    engine.submit(request("long", long(0, 40), n=2))
    engine.submit(request("short"))
    outputs = []
    while engine.has_work:
        outputs += engine.step()
    (failed,) = [o for o in outputs if isinstance(o, Failed)]
    assert (failed.request_id, failed.error.code) == ("long", Code.RESOURCE_EXHAUSTED)
    assert [o.request_id for o in outputs if isinstance(o, Finished)] == ["short"]
    assert engine.load().kv_cache_usage == 0


def test_the_next_turn_of_a_conversation_hits_what_was_generated(make: Bench) -> None:
    bench = make()
    answer = bench.finish(request("turn 1", long(0, 10), max_tokens=23))["turn 1", 0].token_ids
    turn_2 = request("turn 2", (*long(0, 10), *answer, 5, 6))
    again = bench.finish(turn_2)["turn 2", 0]
    assert again.finished.cached_tokens == 32
    assert again.token_ids == make(prefix_caching=False).finish(turn_2)["turn 2", 0].token_ids
