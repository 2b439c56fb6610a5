"""A fleet of scripted workers and the placer that loads models on them, for tests."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from prometheus_client import CollectorRegistry

from infermesh_router.config.settings import RouterSettings
from infermesh_router.core import build_fleet
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.placement.placer import Placer
from infermesh_router.policy.placing import place
from infermesh_router.testing.loading.loading_worker import LoadingWorker


@dataclass
class Mesh:
    fleet: Fleet
    placer: Placer
    registry: CollectorRegistry

    def loads(self, outcome: str) -> float | None:
        return self.registry.get_sample_value("infermesh:router_loads_total", {"outcome": outcome})

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await self.fleet.changes.wait_beyond(self.fleet.changes.version)

    async def settle(self) -> None:
        """Returns after the tasks that the last change woke, and those that wait for them, have run."""
        for _ in range(10):  # turns of the event loop; each wakes the next task of a chain
            await asyncio.sleep(0)


@asynccontextmanager
async def running_mesh(*workers: LoadingWorker, **options: Any) -> AsyncIterator[Mesh]:
    for worker in workers:
        await worker.start()
    fleet, registry = (
        build_fleet(RouterSettings.model_validate({}), on_cache_lost=lambda _address: None),
        CollectorRegistry(),
    )
    placer = Placer(fleet, metrics=RequestMetrics(registry), **{"place": place, **options})
    mesh = Mesh(fleet, placer, registry)
    fleet.set_addresses(worker.address for worker in workers)
    await mesh.until(lambda: all(endpoint.connected for endpoint in fleet.endpoints))
    try:
        yield mesh
    finally:
        await placer.close()
        await fleet.close()
        for worker in workers:
            await worker.stop()


StartMesh = Callable[..., Awaitable[Mesh]]
