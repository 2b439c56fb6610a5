"""Fixtures for a mesh that is disturbed while it runs."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import grpc
import pytest

from infermesh_worker.testing.processes import WorkerProcess
from tests.chaos.mesh import ROUTER_SETTINGS, Mesh, all_ready, new_worker


@pytest.fixture
async def mesh(default_model: Path, tmp_path: Path) -> AsyncIterator[Mesh]:
    """A router, two workers with the real model and exact numerics, and a simulated worker, each behind a link."""
    real: dict[str, object] = {
        "models": default_model.parent,
        "model": default_model.name,
        "numerics": "exact",
        "kv_cache_bytes": "128MiB",
        "threads": 1,
        "max_sequences": 8,
    }
    simulated: dict[str, object] = {"sim_itl_s": 0.01}
    kinds = [("infermesh_worker_cpu", real)] * 2 + [("infermesh_worker.testing.simulated", simulated)]
    async with AsyncExitStack() as parts:
        workers = [await new_worker(parts, module, settings) for module, settings in kinds]
        await asyncio.gather(*(worker.start() for worker in workers))
        router = await WorkerProcess.start(
            "infermesh_router",
            workers=",".join(worker.address for worker in workers),
            admin_listen=f"unix:{tmp_path}/admin.sock",
            **ROUTER_SETTINGS,
        )
        parts.push_async_callback(router.stop)
        channel = await parts.enter_async_context(grpc.aio.insecure_channel(await router.ready()))
        admin = await parts.enter_async_context(grpc.aio.insecure_channel(f"unix:{tmp_path}/admin.sock"))
        mesh = Mesh(router, channel, admin, workers)
        await mesh.wait_until(all_ready)
        yield mesh


@pytest.fixture
def chaos_s() -> float:
    """How long the mesh is disturbed: CHAOS_S, or by default short enough for every test run."""
    return float(os.environ.get("CHAOS_S", "12"))
