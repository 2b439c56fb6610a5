"""A GenerateMany stream of a real server, whose calls behave as the test says."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import grpc
import pytest
from google.rpc.status_pb2 import Status

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from infermesh_runtime.errors import Code, FailedPrecondition, InfermeshError, Unavailable
from infermesh_runtime.logs import REQUEST_ID
from infermesh_runtime.rpc.context import REQUEST_ID_KEY, RpcContext
from infermesh_runtime.rpc.interceptor import CompletedRpc
from infermesh_runtime.rpc.limits.call_limit import TOO_MANY_CALLS, CallLimit
from infermesh_runtime.rpc.options import CHANNEL_OPTIONS
from infermesh_runtime.rpc.server import Server
from infermesh_runtime.rpc.status import from_rpc_error, from_status
from infermesh_worker.rpc.inference_servicer import SERVICE
from infermesh_worker.rpc.streams.frame_stream import GENERATE, FrameStream
from infermesh_worker.testing.frame_client import FrameClient

TIMEOUT_S = 20
ASKED = pb.GenerateRequest(text="hello")
Act = Callable[[RpcContext], Awaitable[None]]


@dataclass
class Played:
    """A server whose calls do what `acts` says by their request ids; others write one event."""

    server: Server
    client: FrameClient
    acts: dict[str, Act] = field(default_factory=dict)
    rpcs: list[CompletedRpc] = field(default_factory=list)

    async def act(self, _request: pb.GenerateRequest, context: RpcContext) -> None:
        await self.acts.get(context.request_id, write_one)(context)

    async def start(self, call: int, act: Act | None = None, **fields: object) -> None:
        """Begins a call with the request id "r" and its number."""
        if act is not None:
            self.acts[f"r{call}"] = act
        await self.client.start(call, ASKED, request_id=f"r{call}", **fields)

    def error(self, call: int) -> InfermeshError:
        return from_status(Status.FromString(self.client.ends[call].details))


async def write_one(context: RpcContext) -> None:
    await context.write(pb.GenerateResponse(delta=pb.Delta(text="a")).SerializeToString())


async def wait_for_ever(_context: RpcContext) -> None:
    await asyncio.Event().wait()


@asynccontextmanager
async def played(*, limit: int = 100) -> AsyncIterator[Played]:
    rpcs: list[CompletedRpc] = []
    server = Server(listen="127.0.0.1:0", drain_s=5, observers=(rpcs.append,), limit=CallLimit(limit, (GENERATE,)))

    async def generate_many(_requests: object, context: RpcContext) -> None:
        await FrameStream(context, lambda _call: made.act).run()

    server.add_service(SERVICE, {"GenerateMany": grpc.stream_stream_rpc_method_handler(generate_many)})
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS) as channel:
        made = Played(server, FrameClient(InferenceServiceStub(channel)), rpcs=rpcs)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                yield made
        finally:
            made.client.stream.cancel()
            await server.stop()


async def test_a_call_has_the_context_of_a_call_of_its_own() -> None:
    seen: list[object] = []

    async def look(context: RpcContext) -> None:
        metadata = dict(context.invocation_metadata())
        seen.extend((context.request_id, metadata[REQUEST_ID_KEY], REQUEST_ID.get(), context.time_remaining()))
        assert context.peer().startswith("ipv4:127.0.0.1:")
        await write_one(context)

    async with played() as stage:
        await stage.start(1, look, timeout_s=10.0)
        await stage.client.read_until_ended(1)
        remaining_s = seen.pop()
        assert seen == ["r1", "r1", "r1"]
        assert isinstance(remaining_s, float)
        assert 9 < remaining_s <= 10
        assert stage.client.events[1] == [pb.GenerateResponse(delta=pb.Delta(text="a"))]
        (rpc,) = stage.rpcs
        assert (rpc.method, rpc.known, rpc.code, rpc.request_id) == (GENERATE, True, Code.OK, "r1")


async def test_a_call_without_a_request_id_gets_one() -> None:
    async with played() as stage:
        await stage.client.start(1, ASKED)
        await stage.client.read_until_ended(1)
        assert len(stage.rpcs[0].request_id) == 32


async def test_errors_are_the_statuses_of_generate(caplog: pytest.LogCaptureFixture) -> None:
    async def refuse(_context: RpcContext) -> None:
        raise FailedPrecondition("not here", reason="WHY", metadata={"a": "b"}, fields={"text": "bad"}, retry_after_s=2)

    async def break_down(context: RpcContext) -> None:
        await write_one(context)
        raise ZeroDivisionError("secret")

    async def be_cancelled(_context: RpcContext) -> None:
        raise asyncio.CancelledError

    async with played() as stage:
        for call, act in ((5, refuse), (6, break_down), (7, be_cancelled)):
            await stage.start(call, act)
        await stage.client.read_until_ended(5, 6, 7)
        codes = [stage.error(call).code for call in (5, 6, 7)]
        assert codes == [Code.FAILED_PRECONDITION, Code.INTERNAL, Code.UNAVAILABLE]
        refused = stage.error(5)
        assert (refused.reason, refused.metadata, refused.fields) == ("WHY", {"a": "b"}, {"text": "bad"})
        assert refused.retry_after_s == 2
        assert "r6" in stage.client.ends[6].message
        assert "secret" not in stage.client.ends[6].message
        assert stage.client.events.keys() == {6}
        assert [rpc.code for rpc in sorted(stage.rpcs, key=lambda rpc: rpc.request_id)] == codes
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [ZeroDivisionError]


async def test_carried_calls_count_as_calls_in_progress() -> None:
    async with played(limit=1) as stage:
        await stage.start(1, wait_for_ever)
        await stage.start(2)
        await stage.client.read_until_ended(2)
        assert stage.error(2).reason == TOO_MANY_CALLS
        await stage.client.cancel(1)
        await stage.start(3)
        await stage.client.read_until_ended(3)
        assert stage.client.ends[3] == pb.CallEnd()


async def test_cancel_deadline_and_a_broken_stream_interrupt_the_handler() -> None:
    interrupted, begun = asyncio.Semaphore(0), asyncio.Semaphore(0)

    async def hang(context: RpcContext) -> None:
        begun.release()
        try:
            await wait_for_ever(context)
        finally:
            interrupted.release()

    async with played() as stage:
        await stage.start(1, hang)
        await begun.acquire()
        await stage.client.cancel(1)
        await interrupted.acquire()
        await stage.start(2, hang, timeout_s=0.01)
        await stage.client.read_until_ended(2)
        await interrupted.acquire()
        await stage.start(3, hang)
        await begun.acquire()
        await begun.acquire()
        stage.client.stream.cancel()
        await interrupted.acquire()
        assert stage.client.ends.keys() == {2}
        assert stage.error(2).code is Code.DEADLINE_EXCEEDED
        assert [rpc.code for rpc in stage.rpcs[:2]] == [Code.CANCELLED, Code.DEADLINE_EXCEEDED]


async def test_a_stop_waits_for_calls_but_not_for_the_stream() -> None:
    may_end = asyncio.Event()

    async def hang(context: RpcContext) -> None:
        await write_one(context)
        await may_end.wait()

    async with played() as stage:
        await stage.start(1, hang)
        await stage.client.read_until_begun(1)
        stopping = asyncio.create_task(stage.server.stop())
        await stage.start(2)
        await stage.client.read_until_ended(2)
        assert not stopping.done()
        may_end.set()
        await stage.client.read_until_ended(1)
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await stage.client.exhaust()
        assert from_rpc_error(ended.value).reason == "SERVER_STOPPED"
        assert {stage.client.ends[call].code for call in (1, 2)} == {Code.OK}
        await stopping


async def test_calls_that_a_stop_ends_are_told_before_the_stream_is(caplog: pytest.LogCaptureFixture) -> None:
    async with played() as stage:
        stage.server._drain_s = 0.0
        for call in range(5):
            await stage.start(call, wait_for_ever)
        await stage.start(5)
        await stage.client.read_until_ended(5)
        stopping = asyncio.create_task(stage.server.stop())
        await stage.client.read_until_ended(*range(5))
        assert all(type(stage.error(call)) is Unavailable for call in range(5))
        assert {stage.error(call).reason for call in range(5)} == {"SERVER_STOPPED"}
        await stopping
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_a_message_may_have_several_commands() -> None:
    """They are obeyed in order: the second call is cancelled after it has begun."""
    async with played() as made:
        made.acts["r2"] = wait_for_ever
        first, second, third = (
            pb.GenerateManyRequest(
                start=pb.CallStart(call=call, request=ASKED.SerializeToString(), request_id=f"r{call}")
            )
            for call in (1, 2, 3)
        )
        first.more.extend([second, pb.GenerateManyRequest(cancel=2), third])
        await made.client.stream.write(first)
        await made.client.read_until_ended(1, 3)
        await made.client.stream.done_writing()
        await made.client.exhaust()
        assert made.client.frames[0].takes_more
        assert made.client.ends.keys() == {1, 3}
        assert [event.delta.text for event in made.client.events[3]] == ["a"]


async def test_a_command_among_several_that_says_nothing_ends_the_stream() -> None:
    async with played() as made:
        command = pb.GenerateManyRequest(cancel=1, more=[pb.GenerateManyRequest()])
        await made.client.stream.write(command)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await made.client.exhaust()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
