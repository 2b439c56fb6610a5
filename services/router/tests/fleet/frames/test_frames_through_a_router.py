"""A router in front of workers with frames: its streams share a link, and survive the link and its worker."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import grpc
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.openai.v1 import openai_pb2
from infermesh_router.testing.router import (
    RunningRouter,
    ScriptedWorker,
    StartRouter,
    StartWorker,
    delta,
    finished,
    started,
)
from infermesh_router.testing.streams import ask, generate, text
from infermesh_runtime.errors import Internal
from infermesh_runtime.rpc.context import RpcContext

STREAMS = 20


async def metric(router: RunningRouter, name: str) -> float:
    """Sum of a metric over all endpoints."""
    body = await router.openai.GetMetrics(openai_pb2.GetMetricsRequest())
    lines = body.data.decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(f"infermesh:router_{name}{{"))


async def test_streams_share_a_link(start_worker: StartWorker, start_router: StartRouter) -> None:
    worker = await start_worker()
    router = await start_router(worker)
    answers = await asyncio.gather(*(generate(router) for _ in range(STREAMS)))
    assert {text(answer) for answer in answers} == {"Hello world"}
    assert (worker.framed, len(worker.requests)) == (1, STREAMS)
    assert await metric(router, "frame_events_total") == STREAMS * 5
    assert 1 <= await metric(router, "frames_total") <= STREAMS * 5


@pytest.mark.parametrize("offered", [True, False], ids=["turned off", "not offered"])
async def test_frames_are_not_used(start_worker: StartWorker, start_router: StartRouter, *, offered: bool) -> None:
    worker = await start_worker(frames=offered)
    router = await start_router(worker, frames=not offered)
    assert text(await generate(router)) == "Hello world"
    assert worker.framed == 0
    assert await metric(router, "frames_total") == 0


async def test_a_worker_may_have_frames_when_it_comes_back(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    worker = await start_worker(frames=False)
    router = await start_router(worker)
    await worker.stop()
    await router.endpoints_when(lambda listed: not listed[0].connected)
    worker.frames = True
    await worker.start()
    await router.endpoints_when(lambda listed: listed[0].connected)
    assert text(await generate(router)) == "Hello world"
    assert worker.framed == 1


async def test_a_router_is_sent_calls(start_worker: StartWorker, start_router: StartRouter) -> None:
    """Routers answer GenerateMany with UNIMPLEMENTED, by name."""
    inner = await start_router(await start_worker())
    outer = await start_router(inner.address)
    await inner.endpoints_when(lambda listed: listed[0].connected)
    assert text(await generate(outer)) == "Hello world"
    assert (await metric(outer, "frames_total"), await metric(inner, "frames_total") > 0) == (0, True)
    link = inner.inference.GenerateMany()
    with pytest.raises(grpc.aio.AioRpcError, match="GenerateMany") as caught:
        await link.read()
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_an_answer_that_nobody_reads_is_made_later(start_worker: StartWorker, start_router: StartRouter) -> None:
    """The router keeps so much of it, lets the endpoint go, and has the rest made when the client has read that."""
    count, piece = 500, "x" * 50_000

    async def talk(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        before = len(request.generated[0].token_ids) if request.generated else 0
        for _ in range(before, count):
            yield delta(piece)
            await asyncio.sleep(0)
        if not before:
            await asyncio.Event().wait()
        yield finished()

    workers = [await start_worker(script=talk) for _ in range(2)]
    call = (await start_router(*workers)).inference.Generate(ask(), timeout=60)
    opening = await call.read()
    first = next(worker for worker in workers if worker.address == opening.started.endpoint)
    async with asyncio.timeout(20):
        await first.interrupted.wait()
    events = [event async for event in _rest(call)]
    assert len(text(events)) == count * len(piece)
    (move,) = events[-1].finished.failovers
    assert (move.from_endpoint, move.reason) == (first.address, "SLOW_READER")


@dataclass
class CutWorker(ScriptedWorker):
    """Says "Hello", waits for `go_on`, and says " there"; `cut` breaks its link, but not its connection."""

    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    cut: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.script = self._talk

    async def GenerateMany(self, requests: AsyncIterator[pb.GenerateManyRequest], context: RpcContext) -> None:
        serving = asyncio.ensure_future(super().GenerateMany(requests, context))
        cutting = asyncio.ensure_future(self.cut.wait())
        try:
            await asyncio.wait((serving, cutting), return_when=asyncio.FIRST_COMPLETED)
        finally:
            serving.cancel()
            cutting.cancel()
        self.cut.clear()
        raise Internal("The link breaks.")

    async def _talk(self, request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        if not request.generated:
            yield delta("Hello")
            await self.go_on.wait()
        yield delta(" there")
        yield finished()


@pytest.fixture
async def pair() -> AsyncIterator[tuple[CutWorker, CutWorker]]:
    workers = CutWorker(), CutWorker()
    for worker in workers:
        await worker.start()
    yield workers
    for worker in workers:
        await worker.stop()


@pytest.mark.parametrize("lost", ["link", "worker"])
async def test_all_streams_of_a_broken_link_go_on_elsewhere(
    pair: tuple[CutWorker, CutWorker], start_router: StartRouter, lost: str
) -> None:
    router = await start_router(*pair, breaker_failures=1000, breaker_failure_rate=1, poison_s=0)
    calls = [router.inference.Generate(ask(), timeout=20) for _ in range(STREAMS)]
    begun = [[await call.read(), await call.read()] for call in calls]
    on_first = sum(events[0].started.endpoint == pair[0].address for events in begun)
    assert 0 < on_first < STREAMS
    await (pair[0].stop() if lost == "worker" else _set(pair[0].cut))
    pair[1].go_on.set()
    failovers = []
    for call, events in zip(calls, begun, strict=True):
        events += [event async for event in _rest(call)]
        assert text(events) == "Hello there"
        failovers += events[-1].finished.failovers
    assert len(failovers) == on_first
    assert {move.from_endpoint for move in failovers} == {pair[0].address}
    assert {move.reason for move in failovers} <= {"STREAM_CUT", "ENDPOINT_STOPPED"}
    if lost == "link":
        pair[0].go_on.set()
        while pair[0].framed == 1:  # the first request opens the link, and goes as a call of its own
            assert text(await generate(router, ask(device=pair[0].address))) == "Hello there"


async def _set(event: asyncio.Event) -> None:
    event.set()


async def _rest(call: grpc.aio.UnaryStreamCall) -> AsyncIterator[pb.GenerateResponse]:
    while (event := await call.read()) is not grpc.aio.EOF:
        yield event
