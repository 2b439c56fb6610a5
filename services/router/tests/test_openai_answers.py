"""Answers of the OpenAI front over real servers: bytes of streams, bodies, errors."""

import asyncio
import json

import grpc
import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.openai.v1 import openai_pb2, openai_pb2_grpc
from infermesh_router.testing.router import delta, finished, started
from infermesh_runtime.errors import ContextLengthExceeded, InvalidArgument, ModelNotFound, Unavailable
from infermesh_runtime.rpc.status import from_rpc_error

USER = {"role": "user", "content": "hi"}


async def post(router, method: str, body: dict | bytes) -> tuple[list[HttpBody], dict[str, str]]:
    """The messages and the initial metadata. Raises the InfermeshError that the status stands for."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    call = getattr(openai_pb2_grpc.OpenAIServiceStub(router.channel), method)(HttpBody(data=raw))
    try:
        messages = [message async for message in call]
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    return messages, dict(await call.initial_metadata())


async def chat(router, **fields: object) -> tuple[list[HttpBody], dict[str, str]]:
    return await post(router, "CreateChatCompletion", {"model": "m", "messages": [USER]} | fields)


async def complete(router, **fields: object) -> tuple[list[HttpBody], dict[str, str]]:
    return await post(router, "CreateCompletion", {"model": "m", "prompt": "hi"} | fields)


def events(messages: list[HttpBody]) -> list[object]:
    """The events of a stream; [DONE] as it is."""
    text = b"".join(message.data for message in messages).decode()
    assert text.endswith("\n\n")
    bodies = [block.removeprefix("data: ") for block in text.removesuffix("\n\n").split("\n\n")]
    return [body if body == "[DONE]" else json.loads(body) for body in bodies]


async def speak(request, _context):
    yield started(request.model)
    yield delta('He"l')
    yield delta("")
    yield delta("lo\n🙂")
    yield finished(reason=pb.FINISH_REASON_LENGTH)


async def test_the_bytes_of_a_chat_stream(start_worker, start_router) -> None:
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


async def test_the_bytes_of_a_completion_stream_with_usage(start_worker, start_router) -> None:
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
    }
    assert parsed == [
        head | {"choices": [text | {"text": 'He"l'}], "usage": None},
        head | {"choices": [text | {"text": "lo\n🙂"}], "usage": None},
        head | {"choices": [text | {"text": "", "finish_reason": "length"}], "usage": None},
        head | {"choices": [], "usage": usage},
        "[DONE]",
    ]


async def test_a_whole_chat(start_worker, start_router) -> None:
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
        },
    }
    assert headers["x-infermesh-endpoint"]


async def test_choices_of_a_stream(start_worker, start_router) -> None:
    messages, _ = await chat(await start_router(await start_worker()), n=2, stream=True)
    parsed = events(messages)[:-1]
    for index in (0, 1):
        choices = [e["choices"][0] for e in parsed if e["choices"][0]["index"] == index]
        assert choices[0]["delta"] == {"role": "assistant", "content": ""}
        assert "".join(c["delta"].get("content", "") for c in choices) == "Hello world"
        assert [c["finish_reason"] for c in choices].count("stop") == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_many_prompts_are_answered_by_index(start_worker, start_router, stream: bool) -> None:
    async def echo(request, _context):
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


async def speak_with_logprobs(request, _context):
    yield started(request.model)
    yield delta("a", logprobs=[token(b"a", -0.5, token(b"a", -0.5), token(b"b", -1))])
    yield delta("", logprobs=[token(b"\xf0\x9f", -0.25)])
    yield delta("🙂", logprobs=[token(b"\x99\x82", -0.75)])
    yield finished()


@pytest.mark.parametrize("stream", [False, True])
async def test_chat_logprobs(start_worker, start_router, stream: bool) -> None:
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
async def test_completion_logprobs(start_worker, start_router, stream: bool) -> None:
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


async def test_an_error_after_the_first_event_is_an_event(start_worker, start_router) -> None:
    async def crash(request, _context):
        yield started(request.model)
        yield delta("Hel")
        raise Unavailable("the engine crashed", reason="ENGINE_CRASHED")

    messages, _ = await chat(await start_router(await start_worker(script=crash)), stream=True)
    *_, last_text, error, done = events(messages)
    assert last_text["choices"][0]["delta"]["content"] == "Hel"
    assert error == {
        "error": {"message": "the engine crashed", "type": "server_error", "param": None, "code": "engine_crashed"}
    }
    assert done == "[DONE]"


@pytest.mark.parametrize("ending", ["early", "killed"])
async def test_a_stream_cut_short_is_an_error_event(start_worker, start_router, ending: str) -> None:
    told = asyncio.Event()

    async def cut(request, context):
        yield started(request.model)
        yield delta("Hel")
        if ending == "killed":
            told.set()
            await asyncio.Event().wait()

    worker = await start_worker(script=cut)
    router = await start_router(worker, failover_wait_s=0.1)
    running = asyncio.create_task(chat(router, stream=True))
    if ending == "killed":
        await told.wait()
        await worker.stop()
    *_, error, done = events((await running)[0])
    assert error["error"]["type"] == "server_error"
    assert done == "[DONE]"


@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_before_the_first_event_is_a_status_in_openais_names(start_worker, start_router, stream) -> None:
    async def refuse(request, _context):
        fields = {"sampling.temperature": "too hot", "chat.messages[0].content": "bad", "stop.max_tokens": "many"}
        raise InvalidArgument("sampling.temperature is too hot", fields=fields)
        yield

    with pytest.raises(InvalidArgument, match=r"^temperature is too hot") as caught:
        await chat(await start_router(await start_worker(script=refuse)), stream=stream)
    assert list(caught.value.fields) == ["temperature", "messages[0].content", "max_completion_tokens"]


async def test_names_of_a_constraint_depend_on_the_request(start_worker, start_router) -> None:
    async def refuse(request, _context):
        raise InvalidArgument("format is bad", fields={"format.json_schema": "bad"})
        yield

    router = await start_router(await start_worker(script=refuse))
    with pytest.raises(InvalidArgument) as caught:
        await chat(router, response_format={"type": "json_object"})
    assert list(caught.value.fields) == ["response_format"]
    with pytest.raises(InvalidArgument) as caught:
        await complete(router, structured_outputs={"json": {}})
    assert list(caught.value.fields) == ["structured_outputs"]


async def test_a_prompt_beyond_the_context_tells_both_lengths(start_worker, start_router) -> None:
    async def refuse(request, _context):
        raise ContextLengthExceeded("too long", metadata={"prompt_tokens": "9000", "context_length": "8192"})
        yield

    with pytest.raises(ContextLengthExceeded) as caught:
        await complete(await start_router(await start_worker(script=refuse)), stream=True)
    assert caught.value.metadata == {"prompt_tokens": "9000", "context_length": "8192"}


async def test_unknown_fields_are_refused_or_reported(start_worker, start_router) -> None:
    worker = await start_worker()
    with pytest.raises(InvalidArgument, match="'foo'"):
        await chat(await start_router(worker), foo=1)
    assert not worker.requests
    messages, headers = await chat(await start_router(worker, unknown_fields="ignore"), foo=1, **{"bä r": 2})
    assert json.loads(messages[0].data)["choices"]
    assert headers["x-infermesh-ignored-fields"] == "foo,b%C3%A4%20r"


async def test_a_device_of_a_later_version_has_a_header_too(start_worker, start_router) -> None:
    async def later(request, _context):
        yield pb.GenerateResponse(started=pb.Started(model="m", device=99))
        yield finished()

    _, headers = await chat(await start_router(await start_worker(script=later)))
    assert headers["x-infermesh-device"] == "unknown"


async def test_a_body_may_not_be_too_large(start_worker, start_router) -> None:
    router = await start_router(await start_worker(), max_body_bytes=1024)
    with pytest.raises(InvalidArgument, match="at most 1024"):
        await chat(router, user="u" * 1024)


async def test_an_unknown_model(start_worker, start_router) -> None:
    router = await start_router(await start_worker())
    with pytest.raises(ModelNotFound) as caught:
        await chat(router, model="nope", stream=True)
    assert caught.value.reason == "MODEL_NOT_FOUND"


async def test_models(start_worker, start_router) -> None:
    router = await start_router(
        await start_worker(models=("m", "org/big")),
        await start_worker(models=("loading",), state=pb.ENDPOINT_STATE_LOADING),
    )
    stub = openai_pb2_grpc.OpenAIServiceStub(router.channel)
    answer = await stub.ListModels(openai_pb2.ListModelsRequest())
    assert answer.content_type == "application/json"
    body = json.loads(answer.data)
    assert body["object"] == "list"
    assert [model["id"] for model in body["data"]] == ["m", "org/big"]
    one = json.loads((await stub.GetModel(openai_pb2.GetModelRequest(model="org/big"))).data)
    assert one == {"id": "org/big", "object": "model", "created": 0, "owned_by": "infermesh", "max_model_len": 2048}
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetModel(openai_pb2.GetModelRequest(model="loading"))
    assert isinstance(from_rpc_error(caught.value), ModelNotFound)


async def test_health_and_metrics(start_worker, start_router) -> None:
    router = await start_router(await start_worker())
    stub = openai_pb2_grpc.OpenAIServiceStub(router.channel)
    assert json.loads((await stub.GetHealth(openai_pb2.GetHealthRequest())).data) == {"status": "ok"}
    await chat(router)
    metrics = await stub.GetMetrics(openai_pb2.GetMetricsRequest())
    assert metrics.content_type.startswith("text/plain; version=")
    text = metrics.data.decode()
    assert 'infermesh:router_choices_total{reason="only_endpoint"} 1.0' in text
    assert 'vllm:time_to_first_token_seconds_count{model_name="m"} 1.0' in text
    assert 'grpc_method="CreateChatCompletion"' in text
    empty = await start_router()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await openai_pb2_grpc.OpenAIServiceStub(empty.channel).GetHealth(openai_pb2.GetHealthRequest())
    assert from_rpc_error(caught.value).retry_after_s == 1.0


async def test_a_client_that_leaves_cancels_every_prompt(start_worker, start_router) -> None:
    async def wait(request, _context):
        yield started(request.model)
        yield delta("a")
        await asyncio.Event().wait()

    worker = await start_worker(script=wait)
    router = await start_router(worker)
    body = json.dumps({"model": "m", "prompt": ["a", "b"], "stream": True}).encode()
    call = openai_pb2_grpc.OpenAIServiceStub(router.channel).CreateCompletion(HttpBody(data=body))
    await call.read()
    call.cancel()
    async with asyncio.timeout(10):
        await worker.interrupted.wait()
    await router.endpoints_when(lambda listed: listed[0].in_flight == 0)
