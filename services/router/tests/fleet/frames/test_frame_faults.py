"""Workers that break the contract of frames: their link ends with a reason, and nobody waits for ever."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import grpc
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.api.inference_servicer import SERVICE
from infermesh_router.fleet.channel import open_channel
from infermesh_router.fleet.frames.frame_call import FrameCall
from infermesh_router.fleet.frames.frame_link import FrameLink
from infermesh_runtime.background.tasks import TaskSupervisor
from infermesh_runtime.errors import ResourceExhausted, Unavailable
from infermesh_runtime.testing.serving import plain_server

Frames = Sequence[bytes | Exception]


def frame(*events: pb.CallEvent) -> bytes:
    return pb.GenerateManyResponse(events=events).SerializeToString()


def end(call: int) -> pb.CallEvent:
    return pb.CallEvent(call=call, end=pb.CallEnd())


class RawWorker:
    """Answers GenerateMany with given frames, once two calls have begun."""

    def __init__(self, frames: Frames) -> None:
        self.frames = frames
        self.links = 0

    async def many(self, requests: AsyncIterator[bytes], context: grpc.aio.ServicerContext) -> None:
        self.links += 1
        await context.write(b"")
        await anext(requests)
        await anext(requests)
        for message in self.frames:
            if isinstance(message, Exception):
                raise message
            await context.write(message)
        async for _ in requests:
            pass


@asynccontextmanager
async def linked(frames: Frames) -> AsyncIterator[tuple[RawWorker, FrameLink]]:
    """Such a worker, and an open link to it."""
    worker, tasks = RawWorker(frames), TaskSupervisor()
    methods = {"GenerateMany": grpc.stream_stream_rpc_method_handler(worker.many)}
    handlers = [grpc.method_handlers_generic_handler(SERVICE, methods)]
    serving = plain_server(lambda server: server.add_generic_rpc_handlers(handlers))
    async with serving as address, open_channel(address) as channel, asyncio.timeout(10):
        link = FrameLink(channel, address=address, tasks=tasks)
        await link.settle()
        yield worker, link
        await link.close()
    assert tasks.restarts["frames"] == 0


BROKEN = {
    "garbage": [b"\xff\xff"],
    "a call that never began": [frame(pb.CallEvent(call=77, response=b"x"))],
    "call 0": [frame(end(0))],
    "two ends": [frame(end(1)), frame(end(1))],
    "an event after the end": [frame(end(1), pb.CallEvent(call=1, response=b"x"))],
    "an event without content": [frame(pb.CallEvent(call=2))],
}


@pytest.mark.parametrize("frames", BROKEN.values(), ids=BROKEN)
async def test_a_link_that_breaks_the_contract_ends_with_all_its_calls(frames: Frames) -> None:
    async with linked(frames) as (worker, link):
        _, call = (link.start(b"", request_id="", timeout_s=None) for _ in range(2))
        with pytest.raises(Unavailable) as caught:
            await anext(call)
        assert (caught.value.reason, worker.links) == ("MALFORMED_MESSAGE", 1)
        await link.settle()
        assert link.carries(b"")
        assert worker.links == 2


ENDS: dict[str, tuple[Frames, str]] = {
    "half-close": ([ValueError("a fault of the worker")], "UNKNOWN"),
    "an unknown status": ([frame(pb.CallEvent(call=2, end=pb.CallEnd(code=99, message="odd")))], "odd"),
}


@pytest.mark.parametrize(("frames", "told"), ENDS.values(), ids=ENDS)
async def test_other_ends_are_statuses(frames: Frames, told: str) -> None:
    async with linked(frames) as (_, link):
        _, call = (link.start(b"", request_id="", timeout_s=None) for _ in range(2))
        with pytest.raises(grpc.aio.AioRpcError, match=told) as caught:
            await anext(call)
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.UNKNOWN)


async def test_a_deadline_passes_although_the_worker_does_not_watch_it() -> None:
    async with linked([]) as (_, link):
        call = link.start(b"", request_id="", timeout_s=0.05)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await anext(call)
        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert not call.cancel()


async def test_an_answer_that_nobody_reads_has_a_bound() -> None:
    """What came is delivered; then the call fails in a way that lets the stream go on elsewhere."""
    abandoned: list[None] = []
    call = FrameCall(lambda: abandoned.append(None), most_unread_bytes=10_000)
    message = pb.GenerateResponse(delta=pb.Delta(text="x" * 5000)).SerializeToString()
    came = 0
    while not abandoned:
        call.put(message)
        came += 1
    assert len(abandoned) == 1
    assert [await anext(call) for _ in range(came)] == [message] * came
    with pytest.raises(ResourceExhausted, match="does not read") as caught:
        await anext(call)
    assert caught.value.reason == "SLOW_READER"


async def test_one_large_message_is_no_slow_reader() -> None:
    """A message with the log probabilities of a long prompt may be larger than the bound."""
    call = FrameCall(lambda: pytest.fail("given up"), most_unread_bytes=10_000)
    large = pb.GenerateResponse(started=pb.Started(model="x" * 20_000)).SerializeToString()
    small = pb.GenerateResponse(delta=pb.Delta(text="x")).SerializeToString()
    call.put(large)
    call.put(small)
    assert [await anext(call), await anext(call)] == [large, small]
