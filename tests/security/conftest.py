"""A router with its two planes behind a real Envoy, in front of a scripted worker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infermesh_envoy import Address, EnvoyOptions, EnvoyProcess
from infermesh_router.testing.router import RunningRouter, ScriptedWorker, running_router

FREE = Address("127.0.0.1", 0)


@dataclass(frozen=True, slots=True)
class Mesh:
    """What runs, and where clients reach it."""

    worker: ScriptedWorker
    router: RunningRouter
    envoy: EnvoyProcess

    @property
    def client_addresses(self) -> dict[str, str]:
        """Every address that clients could call with gRPC: Envoy's two listeners, and the router's own."""
        rest = self.envoy.http.partition("//")[2]
        return {"rest": rest, "grpc": self.envoy.grpc, "router": self.router.address}


@asynccontextmanager
async def running_envoy(options: EnvoyOptions, folder: Path) -> AsyncIterator[EnvoyProcess]:
    """Runs Envoy without holding up the event loop."""
    envoy = EnvoyProcess(options, folder)
    await asyncio.to_thread(envoy.start)
    try:
        yield envoy
    finally:
        await asyncio.to_thread(envoy.stop)


@asynccontextmanager
async def running_mesh(folder: Path, envoy_options: dict[str, Any], **settings: Any) -> AsyncIterator[Mesh]:
    """Runs a worker, a router with `settings`, and Envoy with `envoy_options`."""
    worker = ScriptedWorker()
    await worker.start()
    try:
        async with running_router(worker.address, **settings) as router:
            options = EnvoyOptions(http=FREE, grpc=FREE, router=Address.parse(router.address), **envoy_options)
            async with running_envoy(options, folder) as envoy:
                yield Mesh(worker, router, envoy)
    finally:
        await worker.stop()


@pytest.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Mesh]:
    async with running_mesh(tmp_path, {}) as running:
        yield running
