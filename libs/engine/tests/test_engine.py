from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest

from infermesh_engine.engine import EngineConfig
from infermesh_engine.output import Delta, Failed, Finished, FinishReason
from infermesh_engine.request import Continuation, GenerationRequest, OutputFormat, SamplingParams, StopConditions
from infermesh_engine.runner import Batch, Logits, ModelRunner
from infermesh_runtime.errors import Code, ContextLengthExceeded, InvalidArgument, ResourceExhausted

Bench = Callable[..., Any]
EOS = 256


def request(name: str = "r", prompt: tuple[int, ...] = (1, 2, 3), **fields: Any) -> GenerationRequest:
    stop = StopConditions(max_tokens=fields.pop("max_tokens", 20), ignore_eos=True)
    return GenerationRequest(request_id=name, prompt_token_ids=prompt, **{"seed": 7, "stop": stop, **fields})


def plain(choices: Mapping[Any, Any]) -> dict[Any, Any]:
    """Tokens, text, log probabilities and reason, without the usage of the cache."""
    return {
        key: (c.token_ids, c.text, c.logprobs, c.finished.finish_reason, c.finished.completion_tokens)
        for key, c in choices.items()
    }


def long(start: int, tokens: int) -> tuple[int, ...]:
    return tuple((start + 7 * i) % 256 for i in range(tokens))


MIXED = [
    request("greedy", long(1, 5), sampling=SamplingParams(temperature=0)),
    request("drawn", long(2, 40), seed=3, logprobs=2),
    request("penalised", long(3, 17), sampling=SamplingParams(repetition_penalty=1.3, presence_penalty=0.5)),
    request("filtered", long(4, 61), sampling=SamplingParams(top_k=5, top_p=0.9, min_p=0.05), max_tokens=33),
    request("three", long(5, 30), n=3, max_tokens=11),
    request("one token", (9,), max_tokens=40),
]


@pytest.fixture(scope="session")
def alone(make_bench: Bench) -> dict[Any, Any]:
    """What each of MIXED gives alone, prefilled at once, nothing cached."""
    choices: dict[Any, Any] = {}
    for one in MIXED:
        choices |= plain(make_bench(prefix_caching=False, max_sequences=1).finish(one))
    return choices


def test_usage_and_order_of_outputs(make_bench: Bench) -> None:
    engine = make_bench().engine
    engine.submit(request(prompt=long(0, 9), max_tokens=2, n=2))
    outputs = [output for _ in range(4) for output in engine.step()]
    assert [(type(o), o.choice) for o in outputs] == [
        (Delta, 0),
        (Delta, 0),
        (Finished, 0),
        (Delta, 1),
        (Delta, 1),
        (Finished, 1),
    ]
    ends = [o for o in outputs if isinstance(o, Finished)]
    assert [(e.finish_reason, e.prompt_tokens, e.completion_tokens) for e in ends] == [
        (FinishReason.LENGTH, 9, 2),
        (FinishReason.LENGTH, 0, 2),
    ]
    assert not engine.has_work
    assert engine.step() == []


@pytest.mark.parametrize("max_batched_tokens", [16, 17, 64, 4096])
@pytest.mark.parametrize("prefix_caching", [True, False])
def test_batched_and_chunked_equals_alone(
    make_bench: Bench, alone: dict[Any, Any], max_batched_tokens: int, prefix_caching: bool
) -> None:
    bench = make_bench(max_batched_tokens=max_batched_tokens, prefix_caching=prefix_caching)
    assert plain(bench.finish(*MIXED)) == alone


def test_runs_of_at_least_two_tokens_equal_alone(make_bench: Bench, alone: dict[Any, Any]) -> None:
    assert plain(make_bench(max_batched_tokens=16, min_run_tokens=2).finish(*MIXED)) == alone


@pytest.mark.parametrize("num_blocks", [24, 26, 30, 40])
@pytest.mark.parametrize("prefix_caching", [True, False])
def test_preempted_and_resumed_equals_alone(
    make_bench: Bench, alone: dict[Any, Any], num_blocks: int, prefix_caching: bool
) -> None:
    bench = make_bench(num_blocks=num_blocks, prefix_caching=prefix_caching, max_batched_tokens=32)
    assert plain(bench.finish(*MIXED)) == alone
    assert bench.engine.load().preemptions > 0
    assert bench.engine.load().kv_cache_usage == 0


def test_a_prefix_hit_equals_alone_and_is_counted(make_bench: Bench, alone: dict[Any, Any]) -> None:
    bench = make_bench()
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
    make_bench: Bench, alone: dict[Any, Any], which: int
) -> None:
    one = MIXED[which]
    bench = make_bench(max_batched_tokens=16)
    engine = make_bench(max_batched_tokens=64).engine
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


def test_a_continuation_that_was_already_at_its_end_finishes_at_once(make_bench: Bench) -> None:
    bench = make_bench()
    bench.engine.submit(request(max_tokens=3, generated=(Continuation(choice=0, token_ids=(5, 6, 7)),)))
    assert bench.engine.has_work
    assert bench.engine.step() == [
        Finished("r", 0, FinishReason.LENGTH, prompt_tokens=3, completion_tokens=3),
    ]
    assert not bench.engine.has_work


def test_text_held_back_at_the_splice_is_emitted_when_a_later_token_releases_it(make_bench: Bench) -> None:
    letters = {chr(byte): i for i, byte in enumerate([*range(0x21, 0x7F)])}
    stop = StopConditions(strings=("abX",), max_tokens=3)
    held = Continuation(choice=0, token_ids=(letters["a"], letters["b"]))
    bench = make_bench()
    choices = bench.finish(
        request(stop=stop, generated=(held,), sampling=SamplingParams(logit_bias={letters["c"]: 100}))
    )
    assert choices["r", 0].text == "abc"
    assert choices["r", 0].token_ids == (letters["c"],)


def test_stop_reasons(make_bench: Bench) -> None:
    force = SamplingParams(logit_bias={EOS: 100})
    stopped = make_bench().finish(request(sampling=force, stop=StopConditions()))["r", 0]
    assert (stopped.token_ids, stopped.text, stopped.finished.finish_reason) == ((EOS,), "", FinishReason.STOP)
    later = make_bench().finish(request(sampling=force, stop=StopConditions(min_tokens=4)))["r", 0]
    assert len(later.token_ids) == 5
    assert later.finished.finish_reason is FinishReason.STOP
    full = make_bench(context_length=10).finish(request(stop=StopConditions(ignore_eos=True)))["r", 0]
    assert (len(full.token_ids), full.finished.finish_reason) == (7, FinishReason.LENGTH)


def test_a_small_cache_bounds_the_context(make_bench: Bench) -> None:
    full = make_bench(num_blocks=3).finish(request(stop=StopConditions(ignore_eos=True)))["r", 0]
    assert (len(full.token_ids), full.finished.finish_reason) == (9, FinishReason.LENGTH)


def test_the_end_of_a_grammar_ends_the_choice(make_bench: Bench) -> None:
    constraint = OutputFormat(kind="regex", spec="yes|no")
    bench = make_bench()
    choice = bench.finish(request(output_format=constraint, n=1, stop=StopConditions()))["r", 0]
    assert choice.text in {"yes", "no"}
    assert choice.finished.finish_reason is FinishReason.STOP


def test_cancel_frees_blocks_at_once_and_disturbs_nobody(make_bench: Bench, alone: dict[Any, Any]) -> None:
    bench = make_bench(max_batched_tokens=32)
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


def test_cancelling_the_only_request_leaves_no_referenced_block(make_bench: Bench) -> None:
    bench = make_bench()
    bench.engine.submit(request(n=3))
    bench.step()
    bench.engine.cancel("r")
    assert bench.engine.load().kv_cache_usage == 0
    assert not bench.engine.has_work
    bench.engine.submit(request(n=3))


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        (request(prompt=()), InvalidArgument),
        (request(prompt=long(0, 64)), ContextLengthExceeded),
        (request(prompt=long(0, 40)), ResourceExhausted),
        (request(name="busy"), InvalidArgument),
        (request(generated=(Continuation(choice=0, token_ids=(), finished=True),)), InvalidArgument),
        (request(output_format=OutputFormat(kind="regex", spec="(")), InvalidArgument),
        (
            request(
                output_format=OutputFormat(kind="regex", spec="a+"), generated=(Continuation(choice=0, token_ids=(3,)),)
            ),
            InvalidArgument,
        ),
    ],
)
def test_a_request_that_cannot_run_is_refused_and_leaves_nothing(
    make_bench: Bench, bad: GenerationRequest, error: type[Exception]
) -> None:
    bench = make_bench(context_length=64, num_blocks=10)
    bench.engine.submit(request("busy"))
    with pytest.raises(error):
        bench.engine.submit(bad)
    assert set(bench.finish()) == {("busy", 0)}


def test_a_prompt_too_long_says_both_lengths(make_bench: Bench) -> None:
    with pytest.raises(ContextLengthExceeded) as caught:
        make_bench(context_length=64).engine.submit(request(prompt=long(0, 70)))
    assert caught.value.metadata == {"prompt_tokens": "70", "context_length": "64"}


class SmallRunner:
    """A runner whose device holds batches of at most so many tokens, or of tokens in so long a context."""

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
def test_a_device_out_of_memory_gets_smaller_batches(
    make_bench: Bench, alone: dict[Any, Any], batch_tokens: int
) -> None:
    bench = make_bench(wrap=lambda runner: SmallRunner(runner, batch_tokens=batch_tokens))
    assert plain(bench.finish(*MIXED)) == alone


def test_a_sequence_that_does_not_fit_alone_fails_and_the_others_go_on(make_bench: Bench) -> None:
    engine = make_bench(wrap=lambda runner: SmallRunner(runner, batch_tokens=100, context_tokens=30)).engine
    engine.submit(request("long", long(0, 40), n=2))
    engine.submit(request("short"))
    outputs = []
    while engine.has_work:
        outputs += engine.step()
    (failed,) = [o for o in outputs if isinstance(o, Failed)]
    assert (failed.request_id, failed.code) == ("long", Code.RESOURCE_EXHAUSTED)
    assert [o.request_id for o in outputs if isinstance(o, Finished)] == ["short"]
    assert engine.load().kv_cache_usage == 0


def test_load_is_measured(make_bench: Bench) -> None:
    bench = make_bench(
        prefill_tokens_per_s=1000, base_itl_s=0.01, slope_itl_s=0.0, max_batched_tokens=32, max_sequences=2
    )
    idle = bench.engine.load()
    assert (idle.prefill_tokens_per_s, idle.decode_tokens_per_s, idle.kv_cache_tokens) == (0, 0, 4 * 4096)
    for name in "abc":
        bench.engine.submit(request(name, long(ord(name), 48)))
    assert (bench.engine.load().waiting, bench.engine.load().waiting_tokens) == (3, 144)
    bench.step()
    load = bench.engine.load()
    assert (load.running, load.waiting, load.waiting_tokens) == (1, 2, 112)
    assert load.kv_cache_usage == pytest.approx(12 / 4096)
    assert load.prefill_tokens_per_s == pytest.approx(1000)
    bench.finish()
    load = bench.engine.load()
    assert (load.running, load.waiting, load.waiting_tokens, load.kv_cache_usage) == (0, 0, 0, 0)
    assert 80 < load.decode_tokens_per_s < 200
    assert load.generated_tokens == 60


def test_close_drops_everything(make_bench: Bench) -> None:
    bench = make_bench()
    bench.engine.submit(request(n=2))
    bench.step()
    bench.engine.close()
    assert not bench.engine.has_work


@pytest.mark.parametrize("limits", [{"max_sequences": 0}, {"max_sequences": 9, "max_batched_tokens": 8}])
def test_a_config_that_cannot_work_is_refused(limits: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="max_batched_tokens"):
        EngineConfig(**limits)
