"""Answers of the OpenAI front over real servers: the bytes of streams, bodies, models, metrics."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import cast

import grpc
import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.openai.v1 import openai_pb2
from infermesh_router.testing.dialects.openai import chat, complete, events
from infermesh_router.testing.router import StartRouter, StartWorker, delta, finished, started
from infermesh_runtime.errors import ModelNotFound
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.rpc.status import from_rpc_error

NO_DETAILS = {"reasoning_tokens": 0, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}


async def speak(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    yield started(request.model)
    yield delta('He"l')
    yield delta("")
    yield delta("lo\n🙂")
    yield finished(reason=pb.FINISH_REASON_LENGTH)


async def test_the_bytes_of_a_chat_stream(start_worker: StartWorker, start_router: StartRouter) -> None:
    worker = await start_worker(script=speak)
    messages, headers = await chat(await start_router(worker), stream=True)
    assert messages[0].content_type.startswith("text/event-stream")
    data = b"".join(message.data for message in messages)
    first = orjson.loads(data.removeprefix(b"data: ").split(b"\n\n")[0])
    head = f'{{"id":"{first["id"]}","object":"chat.completion.chunk","created":{first["created"]},"model":"m",'
    head += '"system_fingerprint":null,"choices":['
    choices = [
        '{"index":0,"delta":{"role":"assistant","content":""},"logprobs":null,"finish_reason":null}',
        '{"index":0,"delta":{"content":"He\\"l"},"logprobs":null,"finish_reason":null}',
        '{"index":0,"delta":{"content":"lo\\n🙂"},"logprobs":null,"finish_reason":null}',
        '{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}',
    ]
    assert data.decode() == "".join(f"data: {head}{choice}]}}\n\n" for choice in choices) + "data: [DONE]\n\n"
    assert first["id"].startswith("chatcmpl-")
    assert headers["x-infermesh-endpoint"] == worker.address
    assert headers["x-infermesh-device"] == "cpu"
    assert headers["x-infermesh-reason"] == "only_endpoint"
    assert headers["x-request-id"]


async def test_the_bytes_of_a_completion_stream_with_usage(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    router = await start_router(await start_worker(script=speak))
    messages, _ = await complete(router, stream=True, stream_options={"include_usage": True})
    parsed = events(messages)
    head = {k: v for k, v in parsed[0].items() if k in ("id", "created", "model", "object", "system_fingerprint")}
    assert (head["object"], head["id"][:5]) == ("text_completion", "cmpl-")
    text = {"index": 0, "logprobs": None, "finish_reason": None}
    usage = {
        "prompt_tokens": 3,
        "completion_tokens": 2,
        "total_tokens": 5,
        "prompt_tokens_details": {"cached_tokens": 1},
        "completion_tokens_details": NO_DETAILS,
    }
    assert parsed == [
        head | {"choices": [text | {"text": 'He"l'}], "usage": None},
        head | {"choices": [text | {"text": "lo\n🙂"}], "usage": None},
        head | {"choices": [text | {"text": "", "finish_reason": "length"}], "usage": None},
        head | {"choices": [], "usage": usage},
        "[DONE]",
    ]


async def test_a_whole_chat(start_worker: StartWorker, start_router: StartRouter) -> None:
    (message,), headers = await chat(await start_router(await start_worker()), n=2)
    assert message.content_type == "application/json"
    body = json.loads(message.data)
    assert body.pop("id").startswith("chatcmpl-")
    assert body.pop("created") > 1_700_000_000
    choice = {
        "message": {"role": "assistant", "content": "Hello world", "refusal": None},
        "logprobs": None,
        "finish_reason": "stop",
    }
    assert body == {
        "object": "chat.completion",
        "model": "m",
        "system_fingerprint": None,
        "choices": [{"index": 0} | choice, {"index": 1} | choice],
        "usage": {
            "prompt_tokens": 3,
            "completion_tokens": 4,
            "total_tokens": 7,
            "prompt_tokens_details": {"cached_tokens": 1},
            "completion_tokens_details": NO_DETAILS,
        },
    }
    assert headers["x-infermesh-endpoint"]


async def test_choices_of_a_stream(start_worker: StartWorker, start_router: StartRouter) -> None:
    messages, _ = await chat(await start_router(await start_worker()), n=2, stream=True)
    parsed = events(messages)[:-1]
    for index in (0, 1):
        choices = [e["choices"][0] for e in parsed if e["choices"][0]["index"] == index]
        assert choices[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(c["delta"].get("content", "") for c in choices) == "Hello world"
        assert [c["finish_reason"] for c in choices].count("stop") == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_many_prompts_are_answered_by_index(
    start_worker: StartWorker, start_router: StartRouter, stream: bool
) -> None:
    async def echo(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        for choice in range(request.n):
            yield delta(f"{request.text}{choice}", choice)
            yield finished(choice)

    router = await start_router(await start_worker(script=echo), await start_worker(script=echo))
    messages, _ = await complete(router, prompt=["a", "b", "c"], n=2, stream=stream)
    if stream:
        texts: dict[int, str] = {}
        for event in events(messages)[:-1]:
            (choice,) = event["choices"]
            texts[choice["index"]] = texts.get(choice["index"], "") + choice["text"]
    else:
        body = json.loads(messages[0].data)
        texts = {choice["index"]: choice["text"] for choice in body["choices"]}
        assert body["usage"]["prompt_tokens"] == 9
    assert texts == {0: "a0", 1: "a1", 2: "b0", 3: "b1", 4: "c0", 5: "c1"}


def token(text: bytes, logprob: float, *top: pb.TokenLogprob) -> pb.TokenLogprob:
    return pb.TokenLogprob(token_id=1, logprob=logprob, token=text, top=top)


async def speak_with_logprobs(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    yield started(request.model)
    yield delta("a", logprobs=[token(b"a", -0.5, token(b"a", -0.5), token(b"b", -1))])
    yield delta("", logprobs=[token(b"\xf0\x9f", -0.25)])
    yield delta("🙂", logprobs=[token(b"\x99\x82", -0.75)])
    yield finished()


@pytest.mark.parametrize("stream", [False, True])
async def test_chat_logprobs(start_worker: StartWorker, start_router: StartRouter, stream: bool) -> None:
    router = await start_router(await start_worker(script=speak_with_logprobs))
    messages, _ = await chat(router, logprobs=True, top_logprobs=2, stream=stream)
    if stream:
        choices = [event["choices"][0] for event in events(messages)[:-1]]
        content = [entry for choice in choices if choice["logprobs"] for entry in choice["logprobs"]["content"]]
        assert "".join(choice["delta"].get("content", "") for choice in choices) == "a🙂"
    else:
        content = json.loads(messages[0].data)["choices"][0]["logprobs"]["content"]
    a = {"token": "a", "logprob": -0.5, "bytes": [97]}
    assert content[0] == a | {"top_logprobs": [a, {"token": "b", "logprob": -1, "bytes": [98]}]}
    assert [entry["bytes"] for entry in content] == [[97], [0xF0, 0x9F], [0x99, 0x82]]


@pytest.mark.parametrize("stream", [False, True])
async def test_completion_logprobs(start_worker: StartWorker, start_router: StartRouter, stream: bool) -> None:
    router = await start_router(await start_worker(script=speak_with_logprobs))
    messages, _ = await complete(router, logprobs=2, stream=stream)
    if stream:
        parts = [e["choices"][0]["logprobs"] for e in events(messages)[:-1] if e["choices"][0]["logprobs"]]
        logprobs = {key: [value for part in parts for value in part[key]] for key in parts[0]}
    else:
        logprobs = json.loads(messages[0].data)["choices"][0]["logprobs"]
    assert logprobs == {
        "tokens": ["a", "bytes:\\xf0\\x9f", "bytes:\\x99\\x82"],
        "token_logprobs": [-0.5, -0.25, -0.75],
        "top_logprobs": [{"a": -0.5, "b": -1.0}, {"bytes:\\xf0\\x9f": -0.25}, {"bytes:\\x99\\x82": -0.75}],
        "text_offset": [0, 1, 1],
    }


async def test_a_device_of_a_later_version_has_a_header_too(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    async def later(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield pb.GenerateResponse(started=pb.Started(model="m", device=cast(pb.DeviceKind, 99)))
        yield finished()

    _, headers = await chat(await start_router(await start_worker(script=later)))
    assert headers["x-infermesh-device"] == "unknown"


async def test_models(start_worker: StartWorker, start_router: StartRouter) -> None:
    worker = await start_worker(models=("m", "org/big"))
    router = await start_router(worker, await start_worker(models=("loading",), state=pb.ENDPOINT_STATE_LOADING))
    stub = router.openai
    answer = await stub.ListModels(openai_pb2.ListModelsRequest())
    assert answer.content_type == "application/json"
    body = json.loads(answer.data)
    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == ["m", "org/big"]
    one = json.loads((await stub.GetModel(openai_pb2.GetModelRequest(model="org/big"))).data)
    assert one == {
        "id": "org/big",
        "object": "model",
        "created": 0,
        "owned_by": "infermesh",
        "kind": "generate",
        "max_model_len": 2048,
        "sampling_defaults": {},
        "size_bytes": 0,
        "loaded": True,
        "capabilities": {
            "completions": True,
            "embeddings": False,
            "rerank": False,
            "infer": False,
            "chat_completions": None,
            "images": None,
            "tool_calls": None,
            "reasoning": None,
        },
        "aliases": [],
        "alias_of": [],
        "endpoints": [worker.address],
    }
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetModel(openai_pb2.GetModelRequest(model="loading"))
    assert isinstance(from_rpc_error(caught.value), ModelNotFound)


async def test_health_and_metrics(start_worker: StartWorker, start_router: StartRouter) -> None:
    router = await start_router(await start_worker())
    stub = router.openai
    assert json.loads((await stub.GetHealth(openai_pb2.GetHealthRequest())).data) == {"status": "ok"}
    await chat(router)
    metrics = await stub.GetMetrics(openai_pb2.GetMetricsRequest())
    assert metrics.content_type.startswith("text/plain; version=")
    text = metrics.data.decode()
    assert 'infermesh:router_choices_total{reason="only_endpoint"} 1.0' in text
    assert 'infermesh:router_time_to_first_token_seconds_count{model_name="m"} 1.0' in text
    assert 'grpc_method="CreateChatCompletion"' in text
    empty = await start_router()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await empty.openai.GetHealth(openai_pb2.GetHealthRequest())
    assert from_rpc_error(caught.value).retry_after_s == 1.0


async def test_a_client_that_leaves_cancels_every_prompt(start_worker: StartWorker, start_router: StartRouter) -> None:
    async def wait(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        yield delta("a")
        await asyncio.Event().wait()

    worker = await start_worker(script=wait)
    router = await start_router(worker)
    body = json.dumps({"model": "m", "prompt": ["a", "b"], "stream": True}).encode()
    call = router.openai.CreateCompletion(HttpBody(data=body))
    await call.read()
    call.cancel()
    async with asyncio.timeout(10):
        await worker.interrupted.wait()
    await router.endpoints_when(lambda listed: listed[0].in_flight == 0)
