"""Generate through a real front and a real engine process on the simulated device."""

import json
from collections.abc import Callable
from typing import Any

import grpc
import numpy as np
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from infermesh_runtime.rpc.status import from_rpc_error
from infermesh_runtime.tensors import from_numpy

pytestmark = pytest.mark.asyncio(loop_scope="module")


def ask(**fields: Any) -> pb.GenerateRequest:
    stop = pb.StopConditions(max_tokens=fields.pop("max_tokens", 8))
    chosen: dict[str, Any] = {"text": "hello", "seed": 1, "stop": stop} | fields
    return pb.GenerateRequest(**chosen)


async def collect(stub: InferenceServiceStub, request: pb.GenerateRequest) -> list[pb.GenerateResponse]:
    return [event async for event in stub.Generate(request, timeout=30)]


def tokens(events: list[pb.GenerateResponse], choice: int = 0) -> list[int]:
    deltas = [event.delta for event in events if event.HasField("delta") and event.delta.choice == choice]
    return [token for delta in deltas for token in delta.token_ids]


def text(events: list[pb.GenerateResponse], choice: int = 0) -> str:
    return "".join(event.delta.text for event in events if event.HasField("delta") and event.delta.choice == choice)


async def follow(stub: InferenceServiceStub, until: Callable[[pb.HealthReport], bool]) -> pb.HealthReport:
    """Follows the health until a report fits."""
    watch = stub.WatchHealth(pb.WatchHealthRequest(min_interval_ms=1), timeout=30)
    async for response in watch:
        report: pb.HealthReport = response.report
        if until(report):
            watch.cancel()
            return report
    raise AssertionError("the health stream ended")


def idle(report: pb.HealthReport) -> bool:
    load = report.load
    return not (load.running or load.waiting or load.waiting_tokens or load.kv_cache_usage)


async def test_stream_is_started_deltas_and_finished(stub: InferenceServiceStub) -> None:
    events = await collect(stub, ask())
    started = events[0].started
    assert [event.WhichOneof("event") for event in events] == ["started", *["delta"] * (len(events) - 2), "finished"]
    assert (started.model, started.prompt_tokens, started.seed) == ("simulated", 5, 1)
    assert (started.device, started.endpoint, started.reason) == (pb.DEVICE_KIND_CPU, "", "")
    finished = events[-1].finished
    assert finished.finish_reason == pb.FINISH_REASON_LENGTH
    assert (finished.usage.prompt_tokens, finished.usage.completion_tokens) == (5, 8)
    assert len(tokens(events)) == 8
    assert not any(event.delta.logprobs for event in events)


async def test_same_seed_gives_same_tokens_and_another_seed_others(stub: InferenceServiceStub) -> None:
    first, second, other = [tokens(await collect(stub, ask(seed=seed, max_tokens=20))) for seed in (7, 7, 8)]
    assert first == second != other


async def test_seed_is_drawn_when_unset(stub: InferenceServiceStub) -> None:
    seeds = {(await collect(stub, pb.GenerateRequest(text="a", stop={"max_tokens": 1})))[0].started.seed for _ in "ab"}
    assert len(seeds) == 2


async def test_token_ids_are_the_same_prompt_as_their_text(stub: InferenceServiceStub) -> None:
    expected = await collect(stub, ask(text="hello"))
    for dtype in (np.int32, np.int64):
        ids = from_numpy(np.frombuffer(b"hello", dtype=np.uint8).astype(dtype))
        assert tokens(await collect(stub, ask(token_ids=ids))) == tokens(expected)


async def test_special_tokens_of_a_text_are_recognised(stub: InferenceServiceStub) -> None:
    events = await collect(stub, ask(text="<|im_start|>user"))
    assert events[0].started.prompt_tokens == 5


async def test_chat_is_rendered_by_the_template(stub: InferenceServiceStub) -> None:
    chat = pb.ChatPrompt(messages=[pb.ChatMessage(role="user", content="hi")])
    rendered = "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert tokens(await collect(stub, ask(chat=chat))) == tokens(await collect(stub, ask(text=rendered)))


async def test_long_prompt_is_tokenised_off_the_loop(stub: InferenceServiceStub) -> None:
    prompt = "x" * 4001
    events = await collect(stub, ask(text=prompt + "€" * 30, max_tokens=2))
    assert events[0].started.prompt_tokens == 4001 + 90


async def test_n_choices_end_each_and_count_the_prompt_once(stub: InferenceServiceStub) -> None:
    events = await collect(stub, ask(n=3))
    ends = [event.finished for event in events if event.HasField("finished")]
    assert sorted(end.choice for end in ends) == [0, 1, 2]
    assert sum(end.usage.prompt_tokens for end in ends) == 5
    assert sum(end.usage.completion_tokens for end in ends) == 24
    assert all(len(tokens(events, choice)) == 8 for choice in range(3))


async def test_logprobs_come_with_each_token(stub: InferenceServiceStub) -> None:
    events = await collect(stub, ask(logprobs=pb.LogprobsOptions(top=3)))
    for delta in (event.delta for event in events if event.HasField("delta")):
        assert [entry.token_id for entry in delta.logprobs] == list(delta.token_ids)
        for entry in delta.logprobs:
            assert entry.logprob <= 0
            assert len(entry.top) == 3
            assert entry.top[0].logprob >= entry.top[1].logprob >= entry.top[2].logprob
            assert not entry.top[0].top


async def test_logprobs_of_zero_alternatives(stub: InferenceServiceStub) -> None:
    events = await collect(stub, ask(logprobs=pb.LogprobsOptions()))
    deltas = [event.delta for event in events if event.HasField("delta")]
    assert all(len(delta.logprobs) == len(delta.token_ids) > 0 for delta in deltas)
    assert not any(entry.top for delta in deltas for entry in delta.logprobs)


async def test_json_schema_constrains_the_output(stub: InferenceServiceStub) -> None:
    schema: dict[str, Any] = {"type": "object", "properties": {"on": {"type": "boolean"}}, "required": ["on"]}
    schema["additionalProperties"] = False
    output_format = pb.OutputFormat(json_schema=json.dumps(schema))
    events = await collect(stub, ask(format=output_format, sampling={"temperature": 0}, max_tokens=200))
    assert events[-1].finished.finish_reason == pb.FINISH_REASON_STOP
    assert isinstance(json.loads(text(events))["on"], bool)


async def test_continuation_goes_on_where_the_stream_was_cut(stub: InferenceServiceStub) -> None:
    whole = await collect(stub, ask(max_tokens=20, seed=3))
    cut = tokens(whole)[:9]
    rest = await collect(stub, ask(max_tokens=20, seed=3, generated=[pb.Continuation(token_ids=cut)]))
    assert cut + tokens(rest) == tokens(whole)
    assert rest[-1].finished.usage == whole[-1].finished.usage


async def test_finished_choice_is_not_run_again(stub: InferenceServiceStub) -> None:
    whole = await collect(stub, ask(n=2, seed=3))
    generated = [pb.Continuation(choice=0, token_ids=tokens(whole, 0), finished=True)]
    rest = await collect(stub, ask(n=2, seed=3, generated=generated))
    assert [event.finished.choice for event in rest if event.HasField("finished")] == [1]
    assert tokens(rest, 1) == tokens(whole, 1)


async def test_stop_string_is_not_emitted(stub: InferenceServiceStub) -> None:
    whole = await collect(stub, ask(max_tokens=60, seed=5))
    stop = next(character for character in text(whole) if character.isascii() and character.isprintable())
    events = await collect(stub, ask(seed=5, stop=pb.StopConditions(max_tokens=60, strings=[stop])))
    assert events[-1].finished.stop == stop
    assert text(events) == text(whole)[: text(whole).index(stop)]


async def test_stop_string_that_is_a_special_token_matches_it(stub: InferenceServiceStub) -> None:
    stop = pb.StopConditions(strings=["no", "<|im_end|>"], max_tokens=5)
    request = ask(stop=stop, sampling=pb.SamplingParams(temperature=0, logit_bias={258: 100}))
    events = await collect(stub, request)
    assert (text(events), tokens(events)) == ("", [258])
    assert (events[-1].finished.finish_reason, events[-1].finished.stop) == (pb.FINISH_REASON_STOP, "<|im_end|>")


async def test_cancel_frees_the_blocks(stub: InferenceServiceStub) -> None:
    call = stub.Generate(ask(max_tokens=4000), timeout=30)
    assert (await call.read()).HasField("started")
    await follow(stub, lambda report: report.load.kv_cache_usage > 0 and report.load.running == 1)
    call.cancel()
    await follow(stub, idle)


async def test_fifty_cancels_in_a_row_leave_the_others_alone(stub: InferenceServiceStub) -> None:
    other = stub.Generate(ask(max_tokens=400, seed=9), timeout=60)
    for _ in range(50):
        call = stub.Generate(ask(max_tokens=4000), timeout=30)
        await call.read()
        call.cancel()
    events = [event async for event in other]
    assert tokens(events) == tokens(await collect(stub, ask(max_tokens=400, seed=9)))
    await follow(stub, idle)


async def test_deadline_ends_the_call_and_frees_the_blocks(stub: InferenceServiceStub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in stub.Generate(ask(max_tokens=4000), timeout=0.3):
            pass
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await follow(stub, idle)


async def test_more_requests_than_fit_are_all_answered(stub: InferenceServiceStub) -> None:
    calls = [stub.Generate(ask(max_tokens=30, seed=seed), timeout=30) for seed in range(24)]
    streams = [[event async for event in call] for call in calls]
    assert all(len(tokens(events)) == 30 for events in streams)
    report = await follow(stub, idle)
    assert report.load.generated_tokens > 24 * 30
    assert report.load.decode_tokens_per_s > 0


async def test_embed_and_infer_say_what_is_served(stub: InferenceServiceStub) -> None:
    for call in (stub.Embed(pb.EmbedRequest(texts=["a"])), stub.Infer(pb.InferRequest())):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
        assert "'simulated' generates text, and this worker runs no models" in caught.value.details()


async def test_health_names_device_model_and_load(stub: InferenceServiceStub) -> None:
    report = (await stub.Health(pb.HealthRequest())).report
    assert report.state == pb.ENDPOINT_STATE_READY
    assert (report.device.kind, report.runtime, report.version) == (pb.DEVICE_KIND_CPU, "simulated", "0.1.0")
    (model,) = report.models
    assert (model.name, model.state, model.context_length) == (
        "simulated",
        pb.ENDPOINT_STATE_READY,
        4096,
    )  # what its KV cache holds
    assert report.load.kv_cache_tokens == 4096
    assert report.started_at.seconds > 0


async def test_unknown_model_lists_what_is_served(stub: InferenceServiceStub) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await collect(stub, ask(model="other"))
    error = from_rpc_error(caught.value)
    assert (error.code, error.reason) == (5, "MODEL_NOT_FOUND")
    assert "Models served here: simulated" in error.message
