"""A mesh to disturb: a router process, and workers that are killed, frozen, cut off and drained while it runs."""

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import psutil
import pytest

from infermesh.admin.v1 import admin_pb2, admin_pb2_grpc
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_worker.testing.link import Link
from infermesh_worker.testing.processes import WorkerProcess

WAIT_S = 60.0


@dataclass
class Worker:
    """A worker process behind a link."""

    module: str
    settings: dict[str, object]
    link: Link
    process: WorkerProcess | None = None

    @property
    def address(self) -> str:
        """As the router knows it."""
        return self.link.address

    async def start(self) -> None:
        self.process = await WorkerProcess.start(self.module, **self.settings)
        await self.process.ready()

    def signal(self, number: signal.Signals) -> None:
        """Sends it to the front and the engine process at once."""
        assert self.process is not None
        front = psutil.Process(self.process.pid)
        for process in (front, *front.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    async def kill_and_start(self) -> None:
        """kill -9 of all of it, and a new one."""
        assert self.process is not None
        self.signal(signal.SIGKILL)
        await self.process.wait()
        await self.start()


@dataclass
class Mesh:
    """The router, its channel, and the workers."""

    router: WorkerProcess
    channel: grpc.aio.Channel
    workers: list[Worker] = field(default_factory=list)

    @property
    def admin(self) -> admin_pb2_grpc.AdminServiceStub:
        return admin_pb2_grpc.AdminServiceStub(self.channel)

    def resident_mb(self) -> float:
        """Memory of the router."""
        return psutil.Process(self.router.pid).memory_info().rss / 1e6

    async def wait_until(self, calm) -> list[admin_pb2.Endpoint]:
        """The endpoints, once `calm` says so of (endpoints, queues). Raises TimeoutError."""
        call = self.admin.WatchEndpoints(admin_pb2.WatchEndpointsRequest(min_interval_ms=50))
        listed = admin_pb2.WatchEndpointsResponse()
        try:
            async with asyncio.timeout(WAIT_S):
                async for listed in call:
                    if calm(listed):
                        return list(listed.endpoints)
        except TimeoutError:
            pytest.fail(f"the mesh did not come to rest: {listed}")
        finally:
            call.cancel()
        raise AssertionError("the stream of endpoints ended")


def all_ready(listed: admin_pb2.WatchEndpointsResponse) -> bool:
    """Every endpoint takes requests."""
    return len(listed.endpoints) == 3 and all(
        e.connected and e.report.state == pb.ENDPOINT_STATE_READY and e.breaker != admin_pb2.BREAKER_STATE_OPEN
        for e in listed.endpoints
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
async def mesh(default_model: Path) -> AsyncIterator[Mesh]:
    """Two workers with the real model under exact numerics and a simulated one, each behind a link, and a router."""
    real = {
        "models": default_model.parent,
        "model": default_model.name,
        "numerics": "exact",
        "kv_cache_bytes": "128MiB",
        "threads": 1,
        "max_sequences": 8,
    }
    kinds = [("infermesh_worker_cpu", real)] * 2 + [("infermesh_worker.testing.simulated", {"sim_itl_s": 0.01})]
    async with AsyncExitStack() as parts:
        workers = [await new_worker(parts, module, settings) for module, settings in kinds]
        await asyncio.gather(*(worker.start() for worker in workers))
        router = await WorkerProcess.start(
            "infermesh_router", workers=",".join(worker.address for worker in workers), **ROUTER_SETTINGS
        )
        parts.push_async_callback(router.stop)
        channel = await parts.enter_async_context(grpc.aio.insecure_channel(await router.ready()))
        mesh = Mesh(router, channel, workers)
        await mesh.wait_until(all_ready)
        yield mesh


ROUTER_SETTINGS = {"stall_timeout_s": 1.5, "first_token_timeout_s": 1.5, "reconnect_max_s": 0.2}
"""A frozen worker is noticed within the test's time."""


async def new_worker(parts: AsyncExitStack, module: str, settings: dict[str, object]) -> Worker:
    """A worker that is not started yet; it ends with `parts`, frozen or not."""
    port = free_port()
    link = Link()
    await link.start(port)
    parts.push_async_callback(link.stop)
    worker = Worker(module, {**settings, "listen": f"127.0.0.1:{port}"}, link)

    async def end() -> None:
        if worker.process is not None and worker.process.process.returncode is None:
            worker.signal(signal.SIGCONT)
            await worker.process.stop()

    parts.push_async_callback(end)
    return worker


@pytest.fixture
def chaos_s() -> float:
    """How long the mesh is disturbed: CHAOS_S, else short enough for every test run."""
    return float(os.environ.get("CHAOS_S", "12"))


@pytest.fixture
def ready():
    """The condition that every endpoint takes requests."""
    return all_ready
