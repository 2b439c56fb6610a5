"""Draining through the router: the endpoint is told, what runs is waited for or moved, and it can come back."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest

from infermesh.admin.v1 import admin_pb2 as pb
from infermesh.admin.v1 import admin_pb2_grpc as pb_grpc
from infermesh_router.api.admin_servicer import AdminServicer
from infermesh_router.api.listing import Listing
from infermesh_router.fleet.channel import open_channel
from infermesh_router.fleet.drainer import Drainer
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.fleet.endpoint_stats import StatsByAddress
from infermesh_router.membership.registry import Registry
from infermesh_router.siblings.siblings import Siblings
from infermesh_router.testing.router import StartRouter, StartWorker
from infermesh_runtime.errors import NotFound, Unavailable, Unimplemented
from infermesh_runtime.rpc.interceptor import RpcInterceptor
from infermesh_runtime.rpc.status import from_rpc_error


@dataclass
class DrainingWorker(pb_grpc.EndpointServiceServicer):
    """A worker that drains when `idle` is set."""

    idle: asyncio.Event = field(default_factory=asyncio.Event)
    drained: asyncio.Event = field(default_factory=asyncio.Event)
    resumed: int = 0

    async def Drain(self, request: pb.DrainRequest, context: grpc.aio.ServicerContext) -> pb.DrainResponse:
        self.drained.set()
        await self.idle.wait()
        return pb.DrainResponse()

    async def Resume(self, request: pb.ResumeRequest, context: grpc.aio.ServicerContext) -> pb.ResumeResponse:
        self.resumed += 1
        return pb.ResumeResponse()


async def never(_endpoint: object) -> None:
    await asyncio.Event().wait()


class Draining(NamedTuple):
    servicer: DrainingWorker
    address: str
    fleet: Fleet
    server: grpc.aio.Server


@pytest.fixture
async def worker() -> AsyncIterator[Draining]:
    """A worker, its address, and a fleet of it."""
    servicer, server = DrainingWorker(), grpc.aio.server()
    pb_grpc.add_EndpointServiceServicer_to_server(servicer, server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    fleet = Fleet(open_channel=open_channel, poll=never)
    fleet.set_addresses([address])
    yield Draining(servicer, address, fleet, server)
    await fleet.close()
    await server.stop(None)


async def test_a_drain_lasts_until_nothing_runs_and_moves_nothing_by_default(worker: Draining) -> None:
    servicer, address, fleet, _ = worker
    drains = Drainer(fleet, lambda _: pytest.fail("nothing is to be moved"))
    draining = asyncio.create_task(drains.drain(address, move_after_s=None))
    async with asyncio.timeout(10):
        await servicer.drained.wait()
        assert not draining.done()
        servicer.idle.set()
        assert await draining == 0


async def test_what_still_runs_is_moved_and_looked_for_again(worker: Draining) -> None:
    servicer, address, fleet, _ = worker
    counts = [2, 0, 1]

    def move(moved_from: str) -> int:
        assert moved_from == address
        moved = counts.pop(0) if counts else 0  # asked once more before the worker's answer is here
        if not counts:
            servicer.idle.set()
        return moved

    async with asyncio.timeout(10):
        assert await Drainer(fleet, move, move_again_s=0.01).drain(address, move_after_s=0.0) == 3
    assert servicer.drained.is_set()


async def test_resume(worker: Draining) -> None:
    servicer, address, fleet, _ = worker
    await Drainer(fleet, lambda _: 0).resume(address)
    assert servicer.resumed == 1


async def test_an_unknown_endpoint_is_refused_with_those_there_are(worker: Draining) -> None:
    _, address, fleet, _ = worker
    drains = Drainer(fleet, lambda _: 0)
    for call in (drains.resume("x:1"), drains.drain("x:1", move_after_s=None)):
        with pytest.raises(NotFound, match=f"no endpoint 'x:1'; available: {address}"):
            await call


async def test_an_endpoint_that_only_another_router_follows_is_drained(worker: Draining, tmp_path: Path) -> None:
    servicer, address, fleet, _ = worker
    servicer.idle.set()
    server, nothing = grpc.aio.server(interceptors=[RpcInterceptor(())]), Fleet(open_channel=open_channel, poll=never)
    listing = Listing(fleet, source_of=lambda _: "", stats=StatsByAddress(), queues=list)
    other = AdminServicer(
        listing,
        changes=fleet.changes,
        drainer=Drainer(fleet, lambda _: 0),
        registry=Registry(fleet.set_addresses),
        instance="other",
    )
    pb_grpc.add_AdminServiceServicer_to_server(other, server)
    server.add_insecure_port(f"unix:{tmp_path}/s.sock")
    await server.start()
    siblings = Siblings([f"unix:{tmp_path}/s.sock"])
    drains = Drainer(nothing, lambda _: 0, others=siblings)
    assert await drains.drain(address, move_after_s=None) == 0
    await drains.resume(address)
    assert (servicer.drained.is_set(), servicer.resumed) == (True, 1)
    for call in (drains.resume("x:1"), drains.drain("x:1", move_after_s=None)):
        with pytest.raises(NotFound, match="no endpoint 'x:1'"):
            await call
    for call in (drains.resume(address, alone=True), drains.drain(address, move_after_s=None, alone=True)):
        with pytest.raises(NotFound):
            await call
    await siblings.close()
    await server.stop(None)


async def test_an_endpoint_that_dies_while_it_drains_is_an_error(worker: Draining) -> None:
    servicer, address, fleet, server = worker
    draining = asyncio.create_task(Drainer(fleet, lambda _: 0).drain(address, move_after_s=None))
    async with asyncio.timeout(10):
        await servicer.drained.wait()
        await server.stop(None)
        with pytest.raises(Unavailable, match=f"Endpoint {address} is lost"):
            await draining


async def test_an_endpoint_that_is_lost_is_named(worker: Draining) -> None:
    _, address, fleet, server = worker
    await server.stop(None)
    with pytest.raises(Unavailable, match=f"Endpoint {address} is lost") as caught:
        await Drainer(fleet, lambda _: 0).resume(address)
    assert caught.value.reason == "ENDPOINT_LOST"


async def test_over_the_wire(start_worker: StartWorker, start_router: StartRouter) -> None:
    """A worker that does not know how to drain says so itself."""
    worker = await start_worker()
    router = await start_router(worker)
    admin = router.admin
    for call, kind in (
        (admin.DrainEndpoint(pb.DrainEndpointRequest(address="x:1")), NotFound),
        (admin.ResumeEndpoint(pb.ResumeEndpointRequest(address="x:1")), NotFound),
        (admin.DrainEndpoint(pb.DrainEndpointRequest(address=worker.address)), Unimplemented),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call
        assert isinstance(from_rpc_error(caught.value), kind)
