"""A request that streams and waits for its model is told so, in the words of its API, before its answer begins."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.ollama.v1 import ollama_pb2_grpc
from infermesh_router.placement import placer
from infermesh_router.testing.dialects.openai import USER
from infermesh_router.testing.loading.loading_worker import LoadingWorker
from infermesh_router.testing.router import RunningRouter, StartRouter
from infermesh_runtime.errors import ResourceExhausted
from infermesh_runtime.rpc.status import from_rpc_error

COMMENT = ": loading m 62 %, 3 s left\n\n"
PING = ': loading m 62 %, 3 s left\nevent: ping\ndata: {"type":"ping"}\n\n'
CHAT = {"model": "m", "messages": [USER], "stream": True}
CALLS: dict[str, tuple[dict[str, Any], str]] = {
    "CreateChatCompletion": (CHAT, COMMENT),
    "CreateCompletion": ({"model": "m", "prompt": ["a", "b"], "stream": True}, COMMENT),
    "CreateResponse": ({"model": "m", "input": "hi", "stream": True}, COMMENT),
    "CreateMessage": (CHAT | {"max_tokens": 9}, PING),
}


@dataclass
class Waiting:
    """A router whose only worker has the model on disk, and loads it when it may."""

    worker: LoadingWorker
    router: RunningRouter

    def ask(self, method: str, **fields: Any) -> Any:
        stub = self.router.anthropic if method == "CreateMessage" else self.router.openai
        return getattr(stub, method)(HttpBody(data=orjson.dumps(CALLS[method][0] | fields)), timeout=20)


@pytest.fixture
async def waiting(start_router: StartRouter, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Waiting]:
    monkeypatch.setattr(placer, "TELL_S", 0.02)
    worker = LoadingWorker(fraction=0.62)
    worker.may_load.clear()
    await worker.start()
    yield Waiting(worker, await start_router(worker.address, wait_comment_s=0.1))
    await worker.stop()


async def rest(call: Any) -> str:
    """What a stream still says."""
    text = b""
    while (message := await call.read()) is not grpc.aio.EOF:
        text += message.data
    return text.decode()


async def told(call: Any, comment: str) -> HttpBody:
    """Reads until a comment tells the progress: the first may come before the worker's report. The first message."""
    first = message = await call.read()
    while message.data.decode() != comment:
        assert message.data.decode().startswith(": loading m")
        message = await call.read()
    return first


@pytest.mark.parametrize("method", CALLS)
async def test_a_stream_that_waits_for_its_model_says_so_again_and_again(method: str, waiting: Waiting) -> None:
    comment = CALLS[method][1]
    call = waiting.ask(method, surprising=1)
    first = await told(call, comment)
    assert first.content_type.startswith("text/event-stream")
    headers = dict(await call.initial_metadata())
    assert (headers["x-infermesh-ignored-fields"], "x-infermesh-endpoint" in headers) == ("surprising", False)
    assert (await call.read()).data.decode() == comment
    waiting.worker.may_load.set()
    answer = await rest(call)
    assert "Hello" in answer
    assert "error" not in answer.replace('"error":null', "")


@pytest.mark.parametrize("method", CALLS)
async def test_a_load_that_fails_after_a_comment_ends_the_stream_with_an_error_event(
    method: str, waiting: Waiting
) -> None:
    call = waiting.ask(method)
    await told(call, CALLS[method][1])
    waiting.worker.refusal = ResourceExhausted("no memory", reason="MODEL_DOES_NOT_FIT")
    waiting.worker.may_load.set()
    answer = await rest(call)
    assert await call.code() is grpc.StatusCode.OK
    assert "no memory" in answer
    if method == "CreateMessage":
        assert "event: error\n" in answer
        assert "message_start" not in answer
    else:
        assert answer.endswith("data: [DONE]\n\n")
    if method == "CreateResponse":
        kinds = [line.removeprefix("event: ") for line in answer.splitlines() if line.startswith("event: ")]
        assert kinds == ["response.created", "response.in_progress", "error", "response.failed"]


@pytest.mark.parametrize("after_s", [0.0, 60.0])
async def test_a_stream_that_need_not_tell_keeps_its_status_and_headers(
    after_s: float, start_router: StartRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = LoadingWorker(fraction=0.62)
    worker.may_load.clear()
    await worker.start()
    try:
        waiting = Waiting(worker, await start_router(worker.address, wait_comment_s=after_s))
        call = waiting.ask("CreateChatCompletion")
        await worker.asked.wait()
        worker.may_load.set()
        assert ": loading" not in await rest(call)
        assert "x-infermesh-endpoint" in dict(await call.initial_metadata())
        worker.models, worker.refusal = (), ResourceExhausted("no memory", reason="MODEL_DOES_NOT_FIT")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await rest(waiting.ask("CreateChatCompletion", model="n"))
        assert from_rpc_error(caught.value).message == "no memory"
    finally:
        await worker.stop()


async def test_answers_in_one_body_ollamas_lines_and_grpc_wait_in_silence(waiting: Waiting) -> None:
    ollama = ollama_pb2_grpc.OllamaServiceStub(waiting.router.channel)
    streamed = ollama.Chat(HttpBody(data=orjson.dumps(CHAT)), timeout=20)
    whole = waiting.ask("CreateChatCompletion", stream=False)
    native = waiting.router.inference.Generate(pb.GenerateRequest(model="m", text="hi"), timeout=20)
    beside = waiting.ask("CreateChatCompletion")
    await told(beside, COMMENT)
    await beside.read()
    waiting.worker.may_load.set()
    assert orjson.loads(await rest(whole))["choices"][0]["message"]["content"] == "Hello world"
    assert all(orjson.loads(line) for line in (await rest(streamed)).splitlines())
    for call in (whole, streamed):
        assert "x-infermesh-loading-ms" in dict(await call.initial_metadata())
    assert (await native.read()).started.loading_ms > 0


async def test_a_client_that_leaves_while_it_is_told_leaves_nothing_behind(waiting: Waiting) -> None:
    call = waiting.ask("CreateChatCompletion")
    await told(call, COMMENT)
    call.cancel()
    waiting.worker.may_load.set()
    assert "Hello" in await rest(waiting.ask("CreateChatCompletion"))
    async with asyncio.timeout(10):
        await waiting.router.endpoints_when(lambda listed: all(not endpoint.in_flight for endpoint in listed))
    assert len(waiting.worker.loads) == 1
    assert len(waiting.worker.requests) == 1
