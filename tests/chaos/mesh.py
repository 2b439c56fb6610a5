"""A mesh of processes whose workers can be killed, frozen, cut off and drained while it runs."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from infermesh.admin.v1 import admin_pb2, admin_pb2_grpc
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_client.mesh.ports import pick_free_ports
from infermesh_worker.testing.link import Link
from infermesh_worker.testing.processes import WorkerProcess

WAIT_S = 60.0
ROUTER_SETTINGS = {"stall_timeout_s": 1.5, "first_token_timeout_s": 1.5, "reconnect_max_s": 0.2}
"""Short enough that a frozen worker is noticed within the test's time."""


@dataclass
class Worker:
    """A worker process behind a link that can be cut."""

    module: str
    settings: dict[str, object]
    link: Link
    process: WorkerProcess | None = None

    @property
    def address(self) -> str:
        """Where the router reaches it."""
        return self.link.address

    async def start(self) -> None:
        """Starts a process and returns once it takes requests."""
        self.process = await WorkerProcess.start(self.module, **self.settings)
        await self.process.ready()

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to the front and the engine process at once."""
        assert self.process is not None
        front = psutil.Process(self.process.pid)
        for process in (front, *front.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.send_signal(number)

    def engines(self) -> list[psutil.Process]:
        """Its engine processes."""
        assert self.process is not None
        children = psutil.Process(self.process.pid).children()
        return [child for child in children if any("engine_process" in word for word in child.cmdline())]

    async def kill_and_start(self) -> None:
        """Kills front and engine process with SIGKILL, then starts new ones."""
        assert self.process is not None
        self.signal(signal.SIGKILL)
        await self.process.wait()
        await self.start()


@dataclass
class Mesh:
    """The router, its channel, and the workers."""

    router: WorkerProcess
    channel: grpc.aio.Channel
    admin_channel: grpc.aio.Channel
    workers: list[Worker] = field(default_factory=list)

    @property
    def admin(self) -> admin_pb2_grpc.AdminServiceStub:
        return admin_pb2_grpc.AdminServiceStub(self.admin_channel)

    def errors(self) -> list[dict[str, Any]]:
        """The errors that the processes have logged."""
        processes = [self.router, *(worker.process for worker in self.workers if worker.process is not None)]
        return [line for process in processes for line in process.log if line.get("level") == "error"]

    def resident_mb(self) -> float:
        """The router's resident memory."""
        return psutil.Process(self.router.pid).memory_info().rss / 1e6

    async def wait_until(self, calm: Callable[[admin_pb2.WatchEndpointsResponse], bool]) -> None:
        """Returns once `calm` is true of the endpoints and queues; fails the test after WAIT_S."""
        call = self.admin.WatchEndpoints(admin_pb2.WatchEndpointsRequest(min_interval_ms=50))
        listed = admin_pb2.WatchEndpointsResponse()
        try:
            async with asyncio.timeout(WAIT_S):
                async for listed in call:
                    if calm(listed):
                        return
        except TimeoutError:
            pytest.fail(f"the mesh did not come to rest: {listed}")
        finally:
            call.cancel()
        raise AssertionError("the stream of endpoints ended")


def all_ready(listed: admin_pb2.WatchEndpointsResponse) -> bool:
    """Whether every endpoint takes requests."""
    return len(listed.endpoints) == 3 and all(
        e.connected and e.report.state == pb.ENDPOINT_STATE_READY and e.breaker != admin_pb2.BREAKER_STATE_OPEN
        for e in listed.endpoints
    )


@asynccontextmanager
async def running_mesh(kinds: Sequence[tuple[str, dict[str, object]]], folder: Path) -> AsyncIterator[Mesh]:
    """A router and workers, each behind a link, by module and settings. `folder` gets the router's socket."""
    async with AsyncExitStack() as parts:
        workers = [await new_worker(parts, module, settings) for module, settings in kinds]
        await asyncio.gather(*(worker.start() for worker in workers))
        router = await WorkerProcess.start(
            "infermesh_router",
            workers=",".join(worker.address for worker in workers),
            admin_listen=f"unix:{folder}/admin.sock",
            **ROUTER_SETTINGS,
        )
        parts.push_async_callback(router.stop)
        channel = await parts.enter_async_context(grpc.aio.insecure_channel(await router.ready()))
        admin = await parts.enter_async_context(grpc.aio.insecure_channel(f"unix:{folder}/admin.sock"))
        mesh = Mesh(router, channel, admin, workers)
        await mesh.wait_until(all_ready)
        yield mesh


async def new_worker(parts: AsyncExitStack, module: str, settings: dict[str, object]) -> Worker:
    """A worker that is not started yet. It is stopped together with `parts`, even if it is frozen."""
    port = pick_free_ports(1)[0]
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
