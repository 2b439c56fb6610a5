"""What REST clients are told when a request fails, before and after the first event of a stream."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.errors import rename_field, rename_fields
from infermesh_router.testing.dialects.openai import chat, complete, events
from infermesh_router.testing.router import StartRouter, StartWorker, delta, started
from infermesh_runtime.errors import ContextLengthExceeded, InvalidArgument, ModelNotFound, Unavailable
from infermesh_runtime.rpc.context import RpcContext


async def test_an_error_after_the_first_event_is_an_event(start_worker: StartWorker, start_router: StartRouter) -> None:
    async def crash(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
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
async def test_a_stream_cut_short_is_an_error_event(
    start_worker: StartWorker, start_router: StartRouter, ending: str
) -> None:
    told = asyncio.Event()

    async def cut(request: pb.GenerateRequest, context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
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
async def test_an_error_before_the_first_event_is_a_status_in_openais_names(
    start_worker: StartWorker, start_router: StartRouter, stream: bool
) -> None:
    async def refuse(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        fields = {"sampling.temperature": "too hot", "chat.messages[0].content": "bad", "stop.max_tokens": "many"}
        raise InvalidArgument("sampling.temperature is too hot", fields=fields)
        yield

    with pytest.raises(InvalidArgument, match=r"^temperature is too hot") as caught:
        await chat(await start_router(await start_worker(script=refuse)), stream=stream)
    assert list(caught.value.fields) == ["temperature", "messages[0].content", "max_completion_tokens"]


async def test_names_of_a_constraint_depend_on_the_request(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    async def refuse(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        raise InvalidArgument("format is bad", fields={"format.json_schema": "bad"})
        yield

    router = await start_router(await start_worker(script=refuse))
    with pytest.raises(InvalidArgument) as caught:
        await chat(router, response_format={"type": "json_object"})
    assert list(caught.value.fields) == ["response_format"]
    with pytest.raises(InvalidArgument) as caught:
        await complete(router, structured_outputs={"json": {}})
    assert list(caught.value.fields) == ["structured_outputs"]


async def test_a_prompt_beyond_the_context_tells_both_lengths(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    async def refuse(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        raise ContextLengthExceeded("too long", metadata={"prompt_tokens": "9000", "context_length": "8192"})
        yield

    with pytest.raises(ContextLengthExceeded) as caught:
        await complete(await start_router(await start_worker(script=refuse)), stream=True)
    assert caught.value.metadata == {"prompt_tokens": "9000", "context_length": "8192"}


async def test_unknown_fields_are_refused_or_reported(start_worker: StartWorker, start_router: StartRouter) -> None:
    worker = await start_worker()
    with pytest.raises(InvalidArgument, match="'foo'"):
        await chat(await start_router(worker, unknown_fields="reject"), foo=1)
    assert not worker.requests
    messages, headers = await chat(await start_router(worker), foo=1, **{"bä r": 2})
    assert json.loads(messages[0].data)["choices"]
    assert headers["x-infermesh-ignored-fields"] == "foo,b%C3%A4%20r"


async def test_a_body_may_not_be_too_large(start_worker: StartWorker, start_router: StartRouter) -> None:
    router = await start_router(await start_worker(), max_body_bytes=1024)
    with pytest.raises(InvalidArgument, match="at most 1024"):
        await chat(router, user="u" * 1024)


async def test_an_unknown_model(start_worker: StartWorker, start_router: StartRouter) -> None:
    router = await start_router(await start_worker())
    with pytest.raises(ModelNotFound) as caught:
        await chat(router, model="nope", stream=True)
    assert caught.value.reason == "MODEL_NOT_FOUND"


@pytest.mark.parametrize(
    "case",
    [
        ("chat", "it has no chat template", "messages", "it has no chat template"),
        ("prompt", "prompt must hold at least one token", "messages", "messages must hold at least one token"),
        ("token_ids", "too few", "messages", "too few"),
        (
            "chat.template_kwargs_json",
            'chat.template_kwargs_json: must not contain "messages", which come from chat.messages',
            "chat_template_kwargs",
            'chat_template_kwargs: must not contain "messages", which come from messages',
        ),
        ("model", "no model 'chat.messages'", "model", "no model 'chat.messages'"),
    ],
)
async def test_errors_are_in_rests_words(
    start_worker: StartWorker, start_router: StartRouter, case: tuple[str, str, str, str]
) -> None:
    field, message, param, told = case

    async def refuse(_request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        raise InvalidArgument(message, fields={field: "bad"})
        yield

    router = await start_router(await start_worker(script=refuse))
    with pytest.raises(InvalidArgument) as refused:
        await chat(router)
    assert (list(refused.value.fields), refused.value.message) == ([param], told)


def test_arguments_of_a_call_are_named_as_the_body_has_them() -> None:
    path, name = "chat.messages[2].tool_calls[1].arguments_json", "messages[2].tool_calls[1].function.arguments"
    assert rename_field(path, {}) == name
    error = rename_fields(InvalidArgument(f"{path}: is not valid JSON", fields={path: "is not valid JSON"}), {})
    assert (error.message, list(error.fields)) == (f"{name}: is not valid JSON", [name])
