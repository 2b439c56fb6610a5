"""A link to a worker: many calls over one stream, each of which fails, ends and is cancelled alone."""

import asyncio
from collections.abc import AsyncIterator

import grpc
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.channel import open_channel
from infermesh_router.fleet.frames.frame_call import FrameCall
from infermesh_router.fleet.frames.frame_link import MOST_BODY_BYTES, FrameLink
from infermesh_router.testing.router import ScriptedWorker, StartWorker, delta, finished, started
from infermesh_router.testing.streams import hold, refuse, text
from infermesh_runtime.background.tasks import TaskSupervisor
from infermesh_runtime.errors import NotFound, ResourceExhausted
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.rpc.status import from_rpc_error

MANY = 2000


@pytest.fixture
async def worker(start_worker: StartWorker) -> ScriptedWorker:
    return await start_worker()


@pytest.fixture
async def link(worker: ScriptedWorker) -> AsyncIterator[FrameLink]:
    """An open link to the worker; when it is closed, nothing of it is left."""
    before, tasks = asyncio.all_tasks(), TaskSupervisor()
    async with open_channel(worker.address) as channel:
        link = FrameLink(channel, address=worker.address, tasks=tasks)
        await link.settle()
        yield link
        await link.close()
        writers = [task for task in asyncio.all_tasks() - before if "_consume_request_iterator" in repr(task)]
        if writers:
            _, left = await asyncio.wait(writers, timeout=5)
            assert not left
        assert tasks.running == []


def start(link: FrameLink, timeout_s: float | None = None, **fields: object) -> FrameCall:
    body = pb.GenerateRequest(model="m", text="hi", **fields).SerializeToString()  # type: ignore[arg-type]
    assert link.carries(body)
    return link.start(body, request_id="r-1", timeout_s=timeout_s)


async def read(call: FrameCall) -> list[pb.GenerateResponse]:
    async with asyncio.timeout(10):
        return [pb.GenerateResponse.FromString(message) async for message in call]


async def test_many_calls_share_one_stream_and_its_frames(worker: ScriptedWorker, link: FrameLink) -> None:
    answers = await asyncio.gather(*(read(start(link, seed=number)) for number in range(50)))
    assert [text(answer) for answer in answers] == ["Hello world"] * 50
    assert [answer[0].started.seed for answer in answers] == list(range(50))
    assert (worker.framed, len(worker.requests)) == (1, 50)
    assert worker.metadata[0]["x-request-id"] == "r-1"
    assert link.events == 50 * 5
    assert link.frames < link.events / 5


async def test_a_call_fails_alone_and_its_error_has_all_details(worker: ScriptedWorker, link: FrameLink) -> None:
    running = start(link)
    await anext(running)
    worker.script = refuse(ResourceExhausted("No.", reason="QUEUE_FULL", metadata={"a": "b"}, retry_after_s=3))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read(start(link))
    error = from_rpc_error(caught.value)
    assert isinstance(error, ResourceExhausted)
    assert (error.message, error.reason, error.metadata, error.retry_after_s) == ("No.", "QUEUE_FULL", {"a": "b"}, 3)
    assert text(await read(running)) == "Hello world"


async def test_a_cancelled_call_reaches_the_worker_and_disturbs_no_other(
    worker: ScriptedWorker, link: FrameLink
) -> None:
    async def wait(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        await go_on.wait()
        yield finished()

    go_on, worker.script = asyncio.Event(), wait
    left, abandoned, kept = start(link), start(link), start(link)
    for call in (left, abandoned, kept):
        await anext(call)
    reading = asyncio.ensure_future(anext(left))
    await asyncio.sleep(0)
    assert left.cancel()
    assert not left.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    with pytest.raises(asyncio.CancelledError):
        await anext(left)
    async with asyncio.timeout(5):
        await worker.interrupted.wait()
        worker.interrupted.clear()
        reading = asyncio.ensure_future(anext(abandoned))
        await asyncio.sleep(0)
        reading.cancel()  # as when the client of the router is gone
        await worker.interrupted.wait()
    go_on.set()
    assert (await read(kept))[-1].HasField("finished")


async def test_a_call_that_nobody_reads_stops_no_other_and_loses_nothing(
    worker: ScriptedWorker, link: FrameLink
) -> None:
    async def talk(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        for number in range(MANY):
            yield delta(f"{number} ")
            if number % 100 == 0:
                await asyncio.sleep(0)
        yield finished()

    worker.script = talk
    unread, other = start(link), start(link)
    expected = "".join(f"{number} " for number in range(MANY))
    assert text(await read(other)) == expected
    events = await read(unread)
    assert text(events) == expected
    assert sum(len(event.delta.token_ids) for event in events) == MANY
    assert (events[0].HasField("started"), events[-1].HasField("finished")) == (True, True)
    assert len(events) < MANY / 20


async def test_a_deadline_holds_on_a_worker_that_hangs(worker: ScriptedWorker, link: FrameLink) -> None:
    async def hang(_request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        await asyncio.Event().wait()
        yield finished()

    worker.script = hang
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read(start(link, timeout_s=0.05))
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    async with asyncio.timeout(5):
        await worker.interrupted.wait()
    assert worker.remaining_s[0] == pytest.approx(0.05)


async def test_a_link_that_the_worker_cuts_ends_its_calls_and_opens_again(
    worker: ScriptedWorker, link: FrameLink
) -> None:
    async def cut(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        await asyncio.Event().wait()

    worker.script = cut
    calls = [start(link) for _ in range(20)]
    for call in calls:
        await anext(call)
    await worker.stop()
    for call in calls:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await read(call)
        assert caught.value.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    assert not link.carries(b"")
    await worker.start()
    async with asyncio.timeout(10):
        while worker.framed < 2:  # the channel needs a moment to connect again
            await link.settle()
    worker.script = refuse(NotFound("Not here."))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read(start(link))
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


async def test_closing_a_link_ends_its_calls_with_a_status(worker: ScriptedWorker, link: FrameLink) -> None:
    """With CancelledError, the tasks that read them would end as if somebody had cancelled them."""
    worker.script = hold()
    call = start(link)
    await anext(call)
    await link.close()
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await read(call)
    assert caught.value.code() is grpc.StatusCode.CANCELLED


async def test_a_large_request_is_a_call_of_its_own(link: FrameLink) -> None:
    assert link.carries(bytes(MOST_BODY_BYTES))
    assert not link.carries(bytes(MOST_BODY_BYTES + 1))


async def test_a_worker_without_frames_is_asked_once(start_worker: StartWorker) -> None:
    old = await start_worker(frames=False)
    tasks = TaskSupervisor()
    async with open_channel(old.address) as channel:
        link = FrameLink(channel, address=old.address, tasks=tasks)
        await link.settle()
        assert not link.carries(b"")
        assert tasks.running == []  # it does not try again
        old.frames = True
        await link.settle()  # as after a new connection
        assert link.carries(b"")
        await link.close()


@pytest.mark.parametrize("takes_more", [True, False])
async def test_commands_that_wait_share_a_message(*, takes_more: bool) -> None:
    """With an endpoint that says it takes them; one that does not gets each command in a message of its own."""

    class Counting(ScriptedWorker):
        messages = 0

        async def GenerateMany(self, requests: AsyncIterator[pb.GenerateManyRequest], context: RpcContext) -> None:
            async def counted() -> AsyncIterator[pb.GenerateManyRequest]:
                async for request in requests:
                    self.messages += 1
                    yield request

            await super().GenerateMany(counted(), context)

    worker = Counting(takes_more=takes_more)
    await worker.start()
    try:
        async with open_channel(worker.address) as channel:
            link = FrameLink(channel, address=worker.address, tasks=TaskSupervisor())
            await link.settle()
            calls = [start(link, seed=number) for number in range(20)]
            calls[3].cancel()
            answers = await asyncio.gather(*(read(call) for number, call in enumerate(calls) if number != 3))
            assert [answer[0].started.seed for answer in answers] == [n for n in range(20) if n != 3]
            assert worker.messages == (1 if takes_more else 21)
            await link.close()
    finally:
        await worker.stop()
