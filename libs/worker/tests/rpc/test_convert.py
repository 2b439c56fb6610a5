"""Every field of the protobuf messages has its own place in the engine's values, and the other way round."""

from dataclasses import replace
from typing import Any, Literal, cast

import pytest
from google.protobuf.message import Message

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_engine.requests import request as engine
from infermesh_engine.requests.output import Finished, FinishReason, Timings
from infermesh_engine.runners.runner import RunnerInfo
from infermesh_engine.simulated.runner import SimulatedOptions, SimulatedRunner
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.rpc.context import RpcContext
from infermesh_worker.engine_client.output_stream import OutputStream
from infermesh_worker.engine_client.request_meter import RequestTiming
from infermesh_worker.engine_process.frames import WireLogprob
from infermesh_worker.rpc.convert import to_generation
from infermesh_worker.rpc.prompts import prediction
from infermesh_worker.rpc.streams.single import write_responses
from infermesh_worker.testing.simulated import SimulatedSettings, opened_model

MODEL = opened_model(SimulatedSettings.model_validate({}))
RUNNER = SimulatedRunner(SimulatedOptions(vocab_size=259, context_length=99, checks_drafts=True))
INFO = replace(RUNNER.info, weights_bytes=77)


def fields(message: Message) -> set[str]:
    return {field.name for field in message.DESCRIPTOR.fields}


async def convert(info: RunnerInfo = INFO, **given: Any) -> engine.GenerationRequest:
    return await to_generation(pb.GenerateRequest(text="ab", **given), request_id="r", model=MODEL, info=info)


async def test_every_field_of_a_request_arrives() -> None:
    sampling = pb.SamplingParams(
        temperature=0.5,
        top_k=7,
        top_p=0.25,
        min_p=0.125,
        repetition_penalty=1.5,
        presence_penalty=-0.5,
        frequency_penalty=0.75,
        logit_bias={3: -2.5, 4: 8},
        allowed_token_ids=[3, 4],
        bad_words=["a b"],
    )
    text_options = pb.TextOptions(keep_special_tokens=True, keep_stop=True, show_marks=True)
    assert {field.name for field, _ in text_options.ListFields()} == fields(text_options)
    stop = pb.StopConditions(strings=["x", "yz"], token_ids=[5, 6], max_tokens=9, min_tokens=2, ignore_eos=True)
    assert {field.name for field, _ in sampling.ListFields()} == fields(sampling)
    assert {field.name for field, _ in stop.ListFields()} == fields(stop)
    generated = [pb.Continuation(choice=1, token_ids=[8, 9]), pb.Continuation(choice=2, finished=True)]
    request = await convert(
        sampling=sampling,
        stop=stop,
        logprobs=pb.LogprobsOptions(top=4),
        n=3,
        seed=2**64 - 1,
        priority=-6,
        generated=generated,
        prompt_options=pb.PromptOptions(logprobs=2),
        text_options=text_options,
        cache_salt="s",
        prediction=pb.Prediction(text="cd"),
    )
    assert request == engine.GenerationRequest(
        request_id="r",
        prompt_token_ids=(97, 98),
        seed=2**64 - 1,
        sampling=engine.SamplingParams(
            temperature=0.5,
            top_k=7,
            top_p=0.25,
            min_p=0.125,
            repetition_penalty=1.5,
            presence_penalty=-0.5,
            frequency_penalty=0.75,
            logit_bias={3: -2.5, 4: 8},
            allowed_token_ids=(3, 4),
            bad_words=((97, 32, 98),),
        ),
        stop=engine.StopConditions(strings=("x", "yz"), token_ids=(5, 6), max_tokens=9, min_tokens=2, ignore_eos=True),
        logprobs=4,
        prompt_logprobs=2,
        text=engine.TextOptions(keep_special_tokens=True, keep_stop=True),
        cache_salt="s",
        prediction=(99, 100),
        n=3,
        priority=-6,
        generated=(
            engine.Continuation(choice=1, token_ids=(8, 9)),
            engine.Continuation(choice=2, token_ids=(), finished=True),
        ),
    )


async def test_what_a_request_leaves_out_has_the_contracts_default() -> None:
    request = await convert()
    assert request == engine.GenerationRequest(request_id="r", prompt_token_ids=(97, 98), seed=request.seed)
    zero = await convert(sampling=pb.SamplingParams(temperature=0), logprobs=pb.LogprobsOptions())
    assert (zero.sampling.temperature, zero.logprobs) == (0, 0)


async def test_a_prediction_is_cut_to_the_context_and_may_be_token_ids() -> None:
    assert (await convert(prediction=pb.Prediction(text="a" * 5000))).prediction == (97,) * 99
    assert (await convert(prediction=pb.Prediction(token_ids=[5] * 200))).prediction == (5,) * 99
    with pytest.raises(InvalidArgument, match="prediction: must set one of text and token_ids"):
        await convert(prediction=pb.Prediction())
    with pytest.raises(InvalidArgument, match="vocabulary"):
        await convert(prediction=pb.Prediction(token_ids=[259]))


async def test_a_prediction_that_cannot_be_used_is_checked_but_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    no_guesses = replace(INFO, checks_drafts=False)
    monkeypatch.delattr(prediction, "encode")  # nothing is tokenised
    assert (await convert(no_guesses, prediction=pb.Prediction(text="ab"))).prediction == ()
    assert (await convert(no_guesses, prediction=pb.Prediction(token_ids=[5]))).prediction == ()
    with pytest.raises(InvalidArgument, match="prediction: must set one of text and token_ids"):
        await convert(no_guesses, prediction=pb.Prediction())
    with pytest.raises(InvalidArgument, match="vocabulary"):
        await convert(no_guesses, prediction=pb.Prediction(token_ids=[259]))


@pytest.mark.parametrize("kind", ["json_schema", "regex", "grammar"])
async def test_each_format_keeps_its_kind(kind: Literal["json_schema", "regex", "grammar"]) -> None:
    constraint: Any = {kind: "spec"}
    request = await convert(format=pb.OutputFormat(**constraint))
    assert request.output_format == engine.OutputFormat(kind=kind, spec="spec")


@pytest.mark.parametrize("default", [True, False])
async def test_a_request_says_whether_objects_are_open_or_the_worker_does(default: bool) -> None:
    for asked in (None, True, False):
        output_format = pb.OutputFormat(json_schema="{}", open_objects=asked)
        request = pb.GenerateRequest(text="ab", format=output_format)
        made = await to_generation(request, request_id="r", model=MODEL, info=INFO, open_objects=default)
        assert made.output_format is not None
        assert made.output_format.open_objects is (default if asked is None else asked)


class Written:
    """A context that keeps what is written."""

    def __init__(self) -> None:
        self.events: list[pb.GenerateResponse] = []

    async def write(self, event: bytes) -> None:
        self.events.append(pb.GenerateResponse.FromString(event))


async def test_every_field_of_an_output_is_written() -> None:
    stream, context = OutputStream(1, RequestTiming(0.0, 2)), Written()
    top = WireLogprob(11, -1.5, b"b")
    stream.prompt_logprobs = ([WireLogprob(9, 0.0, b"x"), WireLogprob(8, -2.5, b"y", [top])], [0, 4])
    numbers = {"prompt_tokens": 2, "completion_tokens": 3, "drafted_tokens": 9, "accepted_tokens": 8}
    measured = Timings(prompt_ms=1.5, completion_ms=2.5, **numbers)
    stream.push(("r", 3, "text", [7], [WireLogprob(7, -0.5, b"\xff", [top])]))
    stream.finish(
        Finished(
            "r",
            3,
            FinishReason.STOP,
            stop="halt",
            prompt_tokens=4,
            completion_tokens=5,
            cached_tokens=6,
            accepted_prediction_tokens=7,
            rejected_prediction_tokens=1,
            timings=measured,
        )
    )
    await write_responses(stream, pb.Started(model="m"), cast(RpcContext, context))
    logprob = pb.TokenLogprob(token_id=7, logprob=-0.5, token=b"\xff")
    logprob.top.add(token_id=11, logprob=-1.5, token=b"b")
    usage = pb.Usage(prompt_tokens=4, completion_tokens=5, cached_tokens=6)
    usage.accepted_prediction_tokens, usage.rejected_prediction_tokens = 7, 1
    end = pb.Finished(choice=3, finish_reason=pb.FINISH_REASON_STOP, stop="halt", usage=usage)
    end.timings.CopyFrom(pb.Timings(prompt_ms=1.5, completion_ms=2.5, **numbers))
    begun = pb.Started(model="m")
    begun.prompt_logprobs.add(token_id=9, token=b"x")
    second = begun.prompt_logprobs.add(token_id=8, logprob=-2.5, token=b"y", rank=4)
    second.top.add(token_id=11, logprob=-1.5, token=b"b")
    assert context.events == [
        pb.GenerateResponse(started=begun),
        pb.GenerateResponse(delta=pb.Delta(choice=3, text="text", token_ids=[7], logprobs=[logprob])),
        pb.GenerateResponse(finished=end),
    ]
