"""Each message of a stream is parsed once in the router, and reaches gRPC clients as the bytes that came."""

import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.api.inference_servicer import SERVICE
from infermesh_router.relay.streams.event import read_event, write_event
from infermesh_router.requests.call import GENERATE
from infermesh_router.testing.router import ScriptedWorker, StartRouter, delta, finished, started
from infermesh_router.testing.streams import ask
from infermesh_runtime.errors import Unavailable
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.testing.serving import plain_server

STARTED = started().SerializeToString()
FINISHED = finished().SerializeToString()
PARSERS = ("FromString", "ParseFromString", "MergeFromString")
StartRawWorker = Callable[..., Awaitable[str]]


def odd_delta(text: str) -> bytes:
    """A delta whose fields are in an order that no serialiser writes."""
    body = pb.Delta(token_ids=[7]).SerializeToString() + pb.Delta(text=text).SerializeToString()
    message = pb.GenerateResponse(delta=pb.Delta()).SerializeToString()[:1] + bytes([len(body)]) + body
    content = pb.GenerateResponse.FromString(message)
    assert content.delta == pb.Delta(text=text, token_ids=[7])
    assert content.SerializeToString() != message
    return message


@pytest.fixture
async def start_raw_worker() -> AsyncIterator[StartRawWorker]:
    """Starts a worker that answers with these bytes; where `continued` is given, with those to a continuation."""
    async with AsyncExitStack() as stack:

        async def start(messages: list[bytes], *, continued: list[bytes] | None = None) -> str:
            async def answer(request: bytes, context: RpcContext) -> None:
                is_continuation = continued is not None and bool(pb.GenerateRequest.FromString(request).generated)
                for message in (continued or []) if is_continuation else messages:
                    await context.write(message)

            watch = grpc.unary_stream_rpc_method_handler(
                ScriptedWorker().WatchHealth, pb.WatchHealthRequest.FromString, pb.WatchHealthResponse.SerializeToString
            )
            methods = {"Generate": grpc.unary_stream_rpc_method_handler(answer), "WatchHealth": watch}
            handlers = [grpc.method_handlers_generic_handler(SERVICE, methods)]
            return await stack.enter_async_context(
                plain_server(lambda server: server.add_generic_rpc_handlers(handlers))
            )

        yield start


@pytest.fixture
def parses(monkeypatch: pytest.MonkeyPatch) -> Counter[bytes]:
    """How often each message was parsed as a GenerateResponse in this process, in whichever way."""
    counts: Counter[bytes] = Counter()
    parse = pb.GenerateResponse.FromString

    def count(message: bytes) -> pb.GenerateResponse:
        counts[message] += 1
        return parse(message)

    def refuse(_self: pb.GenerateResponse, _message: bytes) -> int:
        raise AssertionError("a second way to parse")

    monkeypatch.setattr(pb.GenerateResponse, "FromString", staticmethod(count))
    for name in PARSERS[1:]:
        monkeypatch.setattr(pb.GenerateResponse, name, refuse)
    return counts


async def test_a_native_stream_is_parsed_once_and_passed_on_as_it_came(
    start_raw_worker: StartRawWorker, start_router: StartRouter, parses: Counter[bytes]
) -> None:
    deltas = [odd_delta(text) for text in ("Hel", "lo", " wor", "ld")]
    parses.clear()
    router = await start_router(await start_raw_worker([STARTED, *deltas, FINISHED]))
    call = router.channel.unary_stream(GENERATE)(ask().SerializeToString())
    first, *rest = [message async for message in call]
    assert rest == [*deltas, FINISHED]
    assert parses == Counter([STARTED, *deltas, FINISHED])
    opening = read_event(first)[1].started
    assert (opening.model, opening.reason) == ("m", "only_endpoint")


@pytest.mark.parametrize("stream", [False, True])
async def test_an_openai_stream_is_parsed_once(
    start_raw_worker: StartRawWorker, start_router: StartRouter, parses: Counter[bytes], stream: bool
) -> None:
    deltas = [odd_delta(text) for text in ("Hel", "lo", " wor", "ld")]
    parses.clear()
    router = await start_router(await start_raw_worker([STARTED, *deltas, FINISHED]))
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": stream}
    answer = [
        message.data async for message in router.openai.CreateChatCompletion(HttpBody(data=json.dumps(body).encode()))
    ]
    assert b"lo" in b"".join(answer)
    assert parses == Counter([STARTED, *deltas, FINISHED])


async def test_a_stream_that_moves_is_parsed_once_too(
    start_raw_worker: StartRawWorker, start_router: StartRouter, parses: Counter[bytes]
) -> None:
    hello, there = odd_delta("Hello"), odd_delta(" there")
    parses.clear()
    cut, whole = [STARTED, hello], [STARTED, there, FINISHED]
    workers = [await start_raw_worker(cut, continued=whole) for _ in range(2)]
    router = await start_router(*workers)
    call = router.channel.unary_stream(GENERATE)(ask().SerializeToString())
    _, *deltas, last = [message async for message in call]
    assert deltas == [hello, there]
    assert parses == Counter([*cut, *whole])
    ended = read_event(last)[1].finished
    assert [move.reason for move in ended.failovers] == ["STREAM_CUT"]


def test_what_cannot_be_parsed_is_malformed() -> None:
    with pytest.raises(Unavailable, match="cannot be parsed") as caught:
        read_event(b"\xff\xff")
    assert caught.value.reason == "MALFORMED_MESSAGE"


def test_changed_content_is_written_anew() -> None:
    message, content = write_event(delta("x"))
    assert content == delta("x") == pb.GenerateResponse.FromString(message)
