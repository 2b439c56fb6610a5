"""What has come of an answer's end goes out in one message; what has not is not waited for."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.answers.tail_writer import MOST_HELD_BYTES, TailWriter
from infermesh_router.testing.router import RunningRouter, StartRouter, StartWorker, delta, finished, started
from infermesh_runtime.rpc.context import RpcContext

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "stream": True}
CALLS = {
    "/infermesh.openai.v1.OpenAIService/CreateChatCompletion": CHAT,
    "/infermesh.openai.v1.OpenAIService/CreateCompletion": {"model": "m", "prompt": "Hi", "stream": True},
    "/infermesh.openai.v1.OpenAIService/CreateResponse": {"model": "m", "input": "Hi", "stream": True, "store": False},
    "/infermesh.anthropic.v1.AnthropicService/CreateMessage": CHAT | {"max_tokens": 5},
    "/infermesh.ollama.v1.OllamaService/Chat": CHAT,
}


def stream(router: RunningRouter, method: str, body: dict[str, Any]) -> Any:
    call = router.channel.unary_stream(method, HttpBody.SerializeToString, HttpBody.FromString)
    return call(HttpBody(data=orjson.dumps(body), content_type="application/json"), timeout=30)


@pytest.mark.parametrize("method", CALLS)
async def test_the_end_is_one_message(start_worker: StartWorker, start_router: StartRouter, method: str) -> None:
    come = asyncio.Event()

    async def talk(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        yield delta("Hello")
        await come.wait()
        for piece in (" big", " world"):
            yield delta(piece)
        yield finished()

    router = await start_router(await start_worker(script=talk))
    messages = aiter(stream(router, method, CALLS[method]))
    first = b""
    while b"Hello" not in first:
        first += (await anext(messages)).data
    come.set()
    (last,) = [message async for message in messages]
    assert last.data.index(b" big") < last.data.index(b" world")
    assert not last.content_type  # only an answer's first message has one
    assert last.data.endswith((b"\n\n", b"\n"))


async def test_an_answer_that_came_at_once_is_one_message(start_worker: StartWorker, start_router: StartRouter) -> None:
    router = await start_router(await start_worker())
    method = next(iter(CALLS))
    (only,) = [message async for message in stream(router, method, CHAT)]
    assert only.content_type.startswith("text/event-stream")
    assert only.data.index(b"Hello") < only.data.index(b"world") < only.data.index(b'"stop"')
    assert only.data.endswith(b"data: [DONE]\n\n")


async def test_prompts_do_not_wait_for_each_other(start_worker: StartWorker, start_router: StartRouter) -> None:
    """Of a request with two prompts, the answer to one is written although the other goes on."""
    go_on = asyncio.Event()

    async def talk(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        if request.text == "slow":
            await go_on.wait()
        yield delta(f"after {request.text}")
        yield finished()

    router = await start_router(await start_worker(script=talk))
    body = {"model": "m", "prompt": ["slow", "quick"], "stream": True}
    messages = aiter(stream(router, "/infermesh.openai.v1.OpenAIService/CreateCompletion", body))
    data = b""
    while b"after quick" not in data:
        data += (await anext(messages)).data
    go_on.set()
    assert b"after slow" in b"".join([message.data async for message in messages])


async def test_what_an_endpoint_sent_does_not_wait_for_the_next_one(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    """An endpoint ends its stream before the answer's end: nothing is held while another one goes on."""
    go_on = asyncio.Event()
    asked: list[pb.GenerateRequest] = []

    async def cut(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        asked.append(request)
        yield started(request.model)
        if len(asked) == 1:
            yield delta("one")
            yield delta("two")
            return  # without `finished`
        yield delta("three")
        await go_on.wait()
        yield finished()

    router = await start_router(await start_worker(script=cut))
    messages = aiter(stream(router, next(iter(CALLS)), CHAT))
    data = b""
    while b"three" not in data:
        data += (await anext(messages)).data
    assert not go_on.is_set()
    go_on.set()
    data += b"".join([message.data async for message in messages])
    assert data.index(b"one") < data.index(b"two") < data.index(b"three") < data.index(b"[DONE]")


class Context:
    """Remembers what is written."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, bytes]] = []

    async def write(self, message: HttpBody) -> None:
        self.sent.append((message.content_type, message.data))


async def test_a_writer_holds_until_it_is_freed() -> None:
    context = Context()
    writer = TailWriter(context)
    await writer.write(HttpBody(content_type="t", data=b"a"))
    writer.hold()
    for data in (b"b", b"c"):
        await writer.write(HttpBody(data=data))
    assert context.sent == [("t", b"a")]
    writer.free()
    await writer.write(HttpBody(data=b"d"))
    await writer.write(HttpBody(data=b"e"))
    assert context.sent == [("t", b"a"), ("", b"bcd"), ("", b"e")]


async def test_a_writer_holds_no_more_than_a_little() -> None:
    context = Context()
    writer = TailWriter(context)
    writer.hold()
    piece = b"x" * 1000
    await writer.write(HttpBody(content_type="t", data=piece))
    for _ in range(99):
        await writer.write(HttpBody(data=piece))
    await writer.flush()
    assert b"".join(data for _, data in context.sent) == 100 * piece
    assert max(len(data) for _, data in context.sent) < MOST_HELD_BYTES + len(piece)
    assert [content_type for content_type, _ in context.sent] == ["t", "", "", ""]


async def test_messages_of_grpc_are_not_joined() -> None:
    context = Context()
    writer = TailWriter(context)
    writer.hold()
    for data in (b"a", b"b"):
        await writer.write(HttpBody(data=data))
    await writer.flush()
    assert context.sent == [("", b"a"), ("", b"b")]
