"""Routers that keep wishes over workers that load, with a clock that the test controls."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from tempfile import TemporaryDirectory

import grpc
from prometheus_client import CollectorRegistry

from infermesh.admin.v1 import admin_pb2
from infermesh.admin.v1.admin_pb2_grpc import add_EndpointServiceServicer_to_server
from infermesh_router.admission.gate import Gate
from infermesh_router.api.endpoint_servicer import EndpointServicer
from infermesh_router.config.settings import RouterSettings
from infermesh_router.core import build_fleet
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.placement.model_commands import ModelCommands
from infermesh_router.placement.placer import Placer
from infermesh_router.placement.wish_keeper import WishKeeper
from infermesh_router.policy.placing import place
from infermesh_router.siblings.siblings import Siblings
from infermesh_router.testing.admission import Clock
from infermesh_router.testing.loading.loading_worker import LoadingWorker
from infermesh_runtime.background.tasks import TaskSupervisor
from infermesh_runtime.rpc.interceptor import RpcInterceptor

PINNED = admin_pb2.LoadModelRequest(model="m", pinned=True)


@dataclass
class Mesh:
    """A router's fleet, and what operators and requests do in it."""

    fleet: Fleet
    placer: Placer
    keeper: WishKeeper
    commands: ModelCommands
    clock: Clock

    async def until(self, condition: Callable[[], bool]) -> None:
        """Waits for a condition, which changes of the fleet bring about."""
        async with asyncio.timeout(10):
            while not condition():
                await self.fleet.changes.wait_beyond(self.fleet.changes.version)

    async def connected(self, worker: LoadingWorker, *, to: bool = True) -> None:
        """Waits until the router is connected to the worker, or has lost it."""
        await self.until(lambda: self.fleet.get(worker.address).connected is to)

    async def looks(self) -> None:
        """Waits until the keeper has seen everything so far, and twice more."""
        for _ in range(3):
            before = self.keeper.looks
            self.fleet.changes.notify()
            async with asyncio.timeout(10):
                while self.keeper.looks == before:  # noqa: ASYNC110 - nothing tells of a look that found nothing
                    await asyncio.sleep(0.002)

    async def wait_for_load(self, worker: LoadingWorker) -> None:
        """Waits until the worker has loaded "m", and says so."""
        async with asyncio.timeout(10):
            await worker.asked.wait()
        await self.until(lambda: "m" in self.fleet.get(worker.address).snapshot.ready_models)

    def pass_time(self, seconds: float) -> None:
        """Lets time pass."""
        self.clock.now_s += seconds
        self.fleet.changes.notify()


@asynccontextmanager
async def mesh(*workers: LoadingWorker, siblings: Siblings | None = None) -> AsyncIterator[Mesh]:
    """A router before workers, which run as long as it does."""
    for worker in workers:
        await worker.start()
    try:
        async with router(*workers, siblings=siblings) as running:
            yield running
    finally:
        for worker in workers:
            await worker.stop()


@asynccontextmanager
async def router(*workers: LoadingWorker, siblings: Siblings | None = None) -> AsyncIterator[Mesh]:
    """A router before workers that run."""
    tasks, clock = TaskSupervisor(), Clock()
    fleet = build_fleet(RouterSettings.model_validate({"reconnect_max_s": 0.1}), on_cache_lost=lambda _address: None)
    placer = Placer(fleet, place=place, metrics=RequestMetrics(CollectorRegistry()), tasks=tasks)
    keeper = WishKeeper(fleet, placer, siblings=siblings, tasks=tasks, clock=clock, interval_s=0.005)
    running = Mesh(fleet, placer, keeper, ModelCommands(fleet, placer, wishes=keeper, siblings=siblings), clock)
    fleet.set_addresses(worker.address for worker in workers)
    await keeper.start()
    for worker in workers:
        await running.connected(worker)
    try:
        yield running
    finally:
        await tasks.close()
        await fleet.close()


@asynccontextmanager
async def two_routers(*workers: LoadingWorker) -> AsyncIterator[tuple[Mesh, Mesh]]:
    """The first of them knows the second."""
    with TemporaryDirectory(prefix="infermesh-") as folder:
        address = f"unix:{folder}/s.sock"
        siblings = Siblings([address])
        async with mesh(*workers, siblings=siblings) as one, router(*workers) as two:
            server = grpc.aio.server(interceptors=[RpcInterceptor(())])
            add_EndpointServiceServicer_to_server(
                EndpointServicer(two.commands, Gate(two.fleet.changes), set_serving=_set_serving), server
            )
            server.add_insecure_port(address)
            await server.start()
            yield one, two
            await siblings.close()
            await server.stop(None)


async def _set_serving(_serving: bool) -> None:
    pass
