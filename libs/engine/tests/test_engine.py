"""One engine from submit to close: outputs, cancels, failures and refusals."""

import pytest
from tokenizers import Tokenizer
from tokenizers.models import WordLevel

from infermesh_engine.engine import EngineConfig
from infermesh_engine.requests.output import Delta, Failed, Finished, FinishReason
from infermesh_engine.requests.request import (
    Continuation,
    GenerationRequest,
    OutputFormat,
    SamplingParams,
    StopConditions,
)
from infermesh_engine.sampling.grammars.grammar import GrammarState
from infermesh_runtime.errors import ContextLengthExceeded, FailedPrecondition, Internal, InvalidArgument, Unimplemented
from libs.engine.tests.asking import EOS, Bench, request


def long(start: int, tokens: int) -> tuple[int, ...]:
    return tuple((start + 7 * i) % 256 for i in range(tokens))


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


def test_what_breaks_for_one_request_ends_that_one_only(make_bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may raise while sampling, when the mask is made, and afterwards, when the token is consumed."""
    constrained = request("bad", n=2, output_format=OutputFormat(kind="regex", spec="[a-z]+"))
    alone = make_bench().finish(request("good"))
    for broken in ("allowed_bits", "consume"):
        with monkeypatch.context() as patch:
            patch.setattr(GrammarState, broken, lambda *_: [].pop())
            engine = make_bench().engine
            engine.submit(request("good"))
            engine.submit(constrained)
            outputs = [output for _ in range(25) for output in engine.step()]
        (failed,) = [output for output in outputs if output.request_id == "bad"]
        assert isinstance(failed, Failed)
        assert isinstance(failed.error, Internal)
        assert failed.error.message == "Internal error in the engine."  # the log has the reason
        good = [output for output in outputs if isinstance(output, Delta)]
        assert tuple(token for delta in good for token in delta.token_ids) == alone["good", 0].token_ids
        assert engine.load().kv_cache_usage == 0
        assert not engine.has_work


def test_a_stop_string_that_is_complete_at_the_limit_is_the_reason(make_bench: Bench) -> None:
    letters = {chr(byte): i for i, byte in enumerate([*range(0x21, 0x7F)])}
    force = SamplingParams(logit_bias={letters["b"]: 100})
    held = (Continuation(choice=0, token_ids=(letters["a"],)),)
    stop = StopConditions(strings=("abc", "b"), max_tokens=2)
    choice = make_bench().finish(request(stop=stop, sampling=force, generated=held))["r", 0]
    assert (choice.text, choice.finished.finish_reason, choice.finished.stop) == ("a", FinishReason.STOP, "b")


def test_a_stop_token_is_not_sampled_before_min_tokens(make_bench: Bench) -> None:
    force = SamplingParams(logit_bias={65: 100})
    choice = make_bench().finish(request(sampling=force, stop=StopConditions(token_ids=(65,), min_tokens=3)))["r", 0]
    assert 65 not in choice.token_ids[:3]
    assert choice.token_ids[3:] == (65,)


def test_cancelling_what_was_at_its_end_already_says_nothing_more(make_bench: Bench) -> None:
    engine = make_bench().engine
    engine.submit(request(max_tokens=1, generated=(Continuation(choice=0, token_ids=(5,)),)))
    engine.cancel("r")
    assert not engine.has_work
    assert engine.step() == []


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
        (request(prompt=long(0, 40)), FailedPrecondition),
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
    engine = make_bench().engine
    engine.submit(request())
    assert len(engine.step()) == 1
    assert engine.load().decode_tokens_per_s == 0  # a prompt's first token is prefill's
    bench.finish()
    load = bench.engine.load()
    assert (load.running, load.waiting, load.waiting_tokens, load.kv_cache_usage) == (0, 0, 0, 0)
    assert 80 < load.decode_tokens_per_s < 200
    assert load.generated_tokens == 60


def test_a_prepared_engine_takes_the_vocabulary_apart_no_more(
    make_bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = make_bench()
    bench.engine.prepare()
    monkeypatch.setattr("llguidance.LLTokenizer", lambda *_, **__: [].pop())
    yes = request(output_format=OutputFormat(kind="regex", spec="yes"))
    assert bench.finish(yes)["r", 0].text == "yes"


def test_a_tokenizer_that_cannot_be_constrained_only_fails_constrained_requests(make_bench: Bench) -> None:
    engine = make_bench(tokenizer=Tokenizer(WordLevel({"a": 0, "<eos>": EOS}))).engine
    engine.prepare()
    engine.submit(request())
    with pytest.raises(Unimplemented, match="does not support output formats"):
        engine.submit(request("constrained", output_format=OutputFormat(kind="regex", spec="yes")))


def test_close_drops_everything(make_bench: Bench) -> None:
    bench = make_bench()
    bench.engine.submit(request(n=2))
    bench.step()
    bench.engine.close()
    assert not bench.engine.has_work


@pytest.mark.parametrize(("max_sequences", "max_batched_tokens"), [(0, 2048), (9, 8)])
def test_a_config_that_cannot_work_is_refused(max_sequences: int, max_batched_tokens: int) -> None:
    with pytest.raises(ValueError, match="max_batched_tokens"):
        EngineConfig(max_sequences=max_sequences, max_batched_tokens=max_batched_tokens)
