"""Starts workers as real processes for tests, reads their logs, and connects to them."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Self

import grpc

from infermesh.admin.v1.admin_pb2 import LoadModelRequest
from infermesh.admin.v1.admin_pb2_grpc import EndpointServiceStub
from infermesh.inference.v1.inference_pb2 import HealthReport, HealthRequest, WatchHealthRequest
from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from infermesh_runtime.rpc.options import CHANNEL_OPTIONS

READY_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 30.0


@dataclass(slots=True)
class WorkerProcess:
    """A worker's front process, whose log is read while it runs."""

    process: asyncio.subprocess.Process
    log: list[dict[str, Any]] = field(default_factory=list)
    """Its log lines so far. A line that is not a JSON object is kept as {"message": line}."""
    _grown: asyncio.Condition = field(default_factory=asyncio.Condition)
    _reader: asyncio.Task[None] | None = None
    _log_ended: bool = False

    @classmethod
    async def start(cls, module: str = "infermesh_worker.testing.simulated", /, **settings: object) -> Self:
        """Starts `python -m module` with settings given by field name (sim_itl_s=0.001).

        INFERMESH_* variables of this process are not passed on.
        """
        environment = {name: value for name, value in os.environ.items() if not name.startswith("INFERMESH_")}
        environment |= {f"INFERMESH_{name.upper()}": str(value) for name, value in settings.items()}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, env=environment, stderr=asyncio.subprocess.PIPE, limit=1 << 20
        )
        worker = cls(process)
        worker._reader = asyncio.create_task(worker._read_log())
        return worker

    @property
    def pid(self) -> int:
        """Process id of the front."""
        return self.process.pid

    async def wait_for(self, message: str, timeout_s: float = READY_TIMEOUT_S, **fields: object) -> dict[str, Any]:
        """Waits for the first log line with this message and these fields.

        Raises RuntimeError when the process ends before it.
        """
        wanted = {"message": message} | fields

        def found() -> dict[str, Any] | None:
            return next((line for line in self.log if wanted.items() <= line.items()), None)

        async with asyncio.timeout(timeout_s), self._grown:
            await self._grown.wait_for(lambda: self._log_ended or found())
        line = found()
        if line is None:
            raise RuntimeError(f"the worker ended before it logged {message!r}: {self.log[-20:]}")
        return line

    async def address(self) -> str:
        """host:port where it listens, possibly before it is ready."""
        line = await self.wait_for("listening")
        return f"{line['host']}:{line['port']}"

    async def ready(self) -> str:
        """host:port where it listens; waits until it takes requests."""
        return str((await self.wait_for("ready"))["listen"])

    async def stop(self, signal_number: int = signal.SIGTERM) -> int:
        """Ends the process; returns its exit status. Kills it when it takes too long."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal_number)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                return await self.wait()
        except TimeoutError:
            self.process.kill()
            return await self.wait()

    async def wait(self) -> int:
        """Waits until the process ends by itself; returns its exit status."""
        status = await self.process.wait()
        if self._reader is not None:
            await self._reader
        return status

    async def _read_log(self) -> None:
        assert self.process.stderr is not None  # noqa: S101 - `start` opened the pipe
        async for raw in self.process.stderr:
            await self._note(_parse(raw))
        await self._note(None)

    async def _note(self, line: dict[str, Any] | None) -> None:
        """Adds a log line; None marks the end of the log."""
        async with self._grown:
            if line is None:
                self._log_ended = True
            else:
                self.log.append(line)
            self._grown.notify_all()


@asynccontextmanager
async def simulated_worker(**settings: object) -> AsyncIterator[str]:
    """Runs a simulated worker; yields its address (host:port) once it is ready.

    Settings are those of SimulatedSettings, for example simulated_worker(model="m", sim_itl_s=0.001, sim_device="xpu"),
    or with several models simulated_worker(model="none", sim_models="a:6GiB,b:6GiB", sim_memory_bytes="8GiB").
    """
    async with simulated_worker_process(**settings) as worker:
        yield await worker.ready()


@dataclass(frozen=True, slots=True)
class WorkerStubs:
    """A connection to a worker: stubs for its two services, and common calls."""

    inference: InferenceServiceStub
    endpoint: EndpointServiceStub

    async def report(self) -> HealthReport:
        """Its current health report."""
        report: HealthReport = (await self.inference.Health(HealthRequest(), timeout=READY_TIMEOUT_S)).report
        return report

    async def report_when(self, fits: Callable[[HealthReport], bool]) -> HealthReport:
        """Waits for the first health report for which `fits` returns true."""
        watch = self.inference.WatchHealth(WatchHealthRequest(min_interval_ms=1), timeout=READY_TIMEOUT_S)
        async for response in watch:
            report: HealthReport = response.report
            if fits(report):
                watch.cancel()
                return report
        raise RuntimeError("the health stream ended")

    async def load(self, *models: str, **fields: Any) -> list[str]:
        """Loads models one after the other; returns the models that were unloaded for them."""
        unloaded: list[str] = []
        for model in models:
            request = LoadModelRequest(model=model, **fields)
            unloaded += (await self.endpoint.LoadModel(request, timeout=READY_TIMEOUT_S)).unloaded
        return unloaded


@asynccontextmanager
async def connected(worker: WorkerProcess) -> AsyncIterator[WorkerStubs]:
    """Connects to a worker once it is ready."""
    async with grpc.aio.insecure_channel(await worker.ready(), options=CHANNEL_OPTIONS) as channel:
        yield WorkerStubs(InferenceServiceStub(channel), EndpointServiceStub(channel))


@asynccontextmanager
async def simulated_worker_process(**settings: object) -> AsyncIterator[WorkerProcess]:
    """Like `simulated_worker`, but yields the process, possibly before it is ready."""
    worker = await WorkerProcess.start(**settings)
    try:
        yield worker
    finally:
        await worker.stop()


def _parse(raw: bytes) -> dict[str, Any]:
    text = raw.decode(errors="replace").rstrip()
    try:
        line = json.loads(text)
    except ValueError:
        return {"message": text}
    return line if isinstance(line, dict) else {"message": text}
