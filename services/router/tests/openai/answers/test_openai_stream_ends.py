"""A stream that has begun ends with a finish reason or an error event, and always with [DONE], whatever cancels it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.testing.dialects.openai import USER, events
from infermesh_router.testing.router import RunningRouter, StartRouter, StartWorker, delta, running_router, started
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.rpc.status import from_rpc_error

CHAT = {"model": "m", "messages": [USER], "stream": True}
PROMPTS = {"model": "m", "prompt": ["a", "b"], "stream": True}
BODIES = [CHAT, PROMPTS]


async def say_and_hang(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    yield started(request.model)
    yield delta("Hello")
    await asyncio.Event().wait()


async def cancel_itself(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    yield started(request.model)
    yield delta("Hello")
    raise asyncio.CancelledError


def begin(router: RunningRouter, body: dict[str, Any], timeout_s: float = 60.0) -> Any:
    call = router.openai.CreateChatCompletion if "messages" in body else router.openai.CreateCompletion
    return call(HttpBody(data=orjson.dumps(body)), timeout=timeout_s)


async def rest(call: Any, first: HttpBody) -> list[Any]:
    """All events of a stream of which the first message was read."""
    messages = [first]
    while (message := await call.read()) is not grpc.aio.EOF:
        messages.append(message)
    assert await call.code() is grpc.StatusCode.OK
    return events(messages)


@pytest.mark.parametrize("body", BODIES)
async def test_a_router_that_stops_tells_its_streams(body: dict[str, Any], start_worker: StartWorker) -> None:
    worker = await start_worker(script=say_and_hang)
    async with running_router(worker.address, drain_s=0.1) as router:
        call = begin(router, body)
        first = await call.read()
        reading = asyncio.create_task(rest(call, first))
    *_, error, done = await reading
    assert (error["error"]["code"], done) == ("server_stopped", "[DONE]")


@pytest.mark.parametrize("body", BODIES)
async def test_a_stream_past_its_deadline_says_so(
    body: dict[str, Any], start_worker: StartWorker, start_router: StartRouter
) -> None:
    router = await start_router(await start_worker(script=say_and_hang))
    call = begin(router, body, timeout_s=3)
    *_, error, done = await rest(call, await call.read())
    assert (error["error"]["code"], done) == ("deadline_exceeded", "[DONE]")


async def test_a_native_stream_past_its_deadline_or_cut_by_the_stop_has_that_status(start_worker: StartWorker) -> None:
    worker = await start_worker(script=say_and_hang)
    async with running_router(worker.address, drain_s=0.1) as router:
        late = router.inference.Generate(pb.GenerateRequest(model="m", text="hi"), timeout=0.5)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in late:
                pass
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        cut = router.inference.Generate(pb.GenerateRequest(model="m", text="hi"))
        await cut.read()

        async def read_on() -> None:
            while await cut.read() is not grpc.aio.EOF:
                pass

        reading = asyncio.create_task(read_on())
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await reading
    assert from_rpc_error(caught.value).reason == "SERVER_STOPPED"


async def test_a_worker_that_cancels_a_stream_is_an_error_event(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    router = await start_router(await start_worker(script=cancel_itself))
    call = begin(router, CHAT)
    *_, error, done = await rest(call, await call.read())
    assert "error" in error
    assert done == "[DONE]"


async def test_a_cancellation_from_within_the_router_is_an_error_event(
    start_worker: StartWorker, start_router: StartRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def run(dispatcher: object, job: Any, sink: Any, **_: object) -> None:
        await sink.begin(0, started().started)
        await sink.take_delta(0, delta("Hello").delta)
        raise asyncio.CancelledError

    monkeypatch.setattr("infermesh_router.openai.answerer.run_generations", run)
    router = await start_router(await start_worker())
    call = begin(router, CHAT)
    *_, error, done = await rest(call, await call.read())
    assert (error["error"]["code"], done) == ("call_abandoned", "[DONE]")
