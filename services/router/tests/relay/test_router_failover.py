"""Streams move to another endpoint, over scripted workers on real ports."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.admission.admission import Admission
from infermesh_router.admission.sessions import Sessions
from infermesh_router.config.settings import RouterSettings
from infermesh_router.core import build_fleet
from infermesh_router.fleet.breaker import BreakerState
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.policy.choice import choose
from infermesh_router.relay.dispatcher import Dispatcher
from infermesh_router.requests.kinds.generate import from_generate
from infermesh_router.testing.router import ScriptedWorker, StartWorker, delta, started
from infermesh_router.testing.streams import ask, hold, stop_after_a_token, text
from infermesh_runtime.errors import Unavailable
from infermesh_runtime.rpc.context import RpcContext


@asynccontextmanager
async def dispatching(*workers: ScriptedWorker) -> AsyncIterator[tuple[Dispatcher, Fleet]]:
    """A dispatcher in front of the workers, once all are connected."""
    defaults: dict[str, Any] = {}
    fleet = build_fleet(RouterSettings(**defaults), on_cache_lost=lambda _address: None)
    metrics, sessions = RequestMetrics(CollectorRegistry()), Sessions()
    admission = Admission(fleet, choose=choose, metrics=metrics, sessions=sessions)
    fleet.set_addresses(worker.address for worker in workers)
    try:
        await until(fleet, lambda: all(endpoint.connected for endpoint in fleet.endpoints))
        yield Dispatcher(admission, fleet=fleet, choose=choose, metrics=metrics, sessions=sessions), fleet
    finally:
        await fleet.close()


async def until(fleet: Fleet, fits: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not fits():
            await fleet.changes.wait_beyond(fleet.changes.version)


async def test_streams_move_off_an_endpoint_and_nobody_is_blamed(start_worker: StartWorker) -> None:
    workers = [await start_worker(script=stop_after_a_token(None)) for _ in range(2)]
    async with dispatching(*workers) as (dispatcher, fleet):
        call = from_generate(ask())
        async with dispatcher.generate(call, None, since_s=time.perf_counter()) as events:
            _, opening = await anext(events)
            left = opening.started.endpoint
            assert dispatcher.move_streams(left) == 1
            assert dispatcher.move_streams(left) == 0
            answer = [pb.GenerateResponse.FromString(message) async for message, _ in events]
        assert text(answer) == "Hello there"
        (told,) = answer[-1].finished.failovers
        assert (told.from_endpoint, told.reason) == (left, "DRAINED")
        assert told.to_endpoint != left
        assert not any(endpoint.in_flight for endpoint in fleet.endpoints)
        assert {endpoint.breaker.state for endpoint in fleet.endpoints} == {BreakerState.CLOSED}
        assert not any(endpoint.last_error for endpoint in fleet.endpoints)  # one fault opens no breaker


async def test_what_waits_for_its_first_token_moves_too(start_worker: StartWorker) -> None:
    came = asyncio.Event()

    async def wait(request: pb.GenerateRequest, context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        came.set()
        async for event in hold()(request, context):
            yield event

    workers = [await start_worker(script=wait) for _ in range(2)]
    async with dispatching(*workers) as (dispatcher, _):

        async def run() -> str:
            async with dispatcher.generate(from_generate(ask()), None, since_s=time.perf_counter()) as events:
                return text([pb.GenerateResponse.FromString(message) async for message, _ in events])

        running = asyncio.create_task(run())
        await came.wait()
        (left,) = (worker for worker in workers if worker.requests)
        for worker in workers:
            worker.script = hold(0)
        assert dispatcher.move_streams(left.address) == 1
        assert await running == "Hello world"


async def test_streams_that_nobody_else_can_go_on_with_stay(start_worker: StartWorker) -> None:
    worker = await start_worker(script=stop_after_a_token(None))
    async with dispatching(worker) as (dispatcher, _):
        async with dispatcher.generate(from_generate(ask()), None, since_s=time.perf_counter()):
            assert dispatcher.move_streams(worker.address) == 0
        async with asyncio.timeout(10):
            await worker.interrupted.wait()


async def test_a_client_that_leaves_while_its_stream_moves_frees_everything(start_worker: StartWorker) -> None:
    came = asyncio.Event()

    async def crash_then_wait(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        if request.generated:
            came.set()
            await asyncio.Event().wait()
        yield delta("Hello")
        raise Unavailable("gone")

    workers = [await start_worker(script=crash_then_wait) for _ in range(2)]
    async with dispatching(*workers) as (dispatcher, fleet):

        async def run() -> None:
            async with dispatcher.generate(from_generate(ask()), None, since_s=time.perf_counter()) as events:
                async for _ in events:
                    pass

        running = asyncio.create_task(run())
        async with asyncio.timeout(10):
            await came.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not any(endpoint.in_flight for endpoint in fleet.endpoints)
