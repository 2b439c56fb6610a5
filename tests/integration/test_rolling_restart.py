"""No request fails while all workers are restarted in turn under load, or while an operator drains one."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from infermesh.admin.v1 import admin_pb2, admin_pb2_grpc
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc as pb_grpc
from infermesh_router.testing.router import RunningRouter, running_router
from infermesh_worker.testing.processes import WorkerProcess

WORKERS = 2
CLIENTS = 6
TOKENS = 40
SETTINGS = {"sim_itl_s": 0.01, "drain_s": 20}


@dataclass
class Load:
    """Clients that send one request after another, and what they were answered."""

    router: RunningRouter
    texts: list[str] = field(default_factory=list)
    served_by: set[str] = field(default_factory=set)
    failovers: int = 0
    answered: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def ask(self) -> None:
        """Reads one stream, which must be complete. Raises AioRpcError when it fails."""
        request = pb.GenerateRequest(
            model="simulated", text="Hello", seed=7, stop=pb.StopConditions(max_tokens=TOKENS, ignore_eos=True)
        )
        events = [event async for event in pb_grpc.InferenceServiceStub(self.router.channel).Generate(request)]
        assert events[0].HasField("started")
        assert sum(len(event.delta.token_ids) for event in events) == TOKENS
        (finished,) = (event.finished for event in events if event.HasField("finished"))
        assert events[-1].finished == finished
        assert finished.usage.completion_tokens == TOKENS
        self.texts.append("".join(event.delta.text for event in events))
        self.served_by.add(events[0].started.endpoint)
        self.failovers += len(finished.failovers)
        async with self.answered:
            self.answered.notify_all()

    async def more(self, count: int) -> None:
        """Returns after `count` more answers."""
        enough = len(self.texts) + count
        async with self.answered:
            await self.answered.wait_for(lambda: len(self.texts) >= enough)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Keeps asking while the block runs; the first failure ends it."""
        over = asyncio.Event()

        async def client() -> None:
            while not over.is_set():
                await self.ask()

        async with asyncio.TaskGroup() as group:
            for _ in range(CLIENTS):
                group.create_task(client())
            async with asyncio.timeout(120):
                yield
            over.set()


@dataclass
class Pool:
    """A router and its workers, which it learns of by registration, DNS or a file."""

    how: str
    stack: AsyncExitStack
    folder: Path
    _router: RunningRouter | None = None
    names: list[str] = field(default_factory=list)
    """The workers' addresses: what the name resolves to, or the lines of the file."""

    @property
    def router(self) -> RunningRouter:
        """The router, once it was started."""
        assert self._router is not None
        return self._router

    @asynccontextmanager
    async def start_router(self) -> AsyncIterator[RunningRouter]:
        """Runs the router while the block runs."""
        match self.how:
            case "dns":
                context = running_router(
                    "dns:///workers:1", resolve=self.resolve, connected=False, resolve_interval_s=0.05
                )
            case "file":
                context = running_router(connected=False, workers_file=str(self.folder / "workers"))
            case _:
                context = running_router(connected=False)
        async with context as self._router:
            yield self._router

    async def start(self, listen: str = "127.0.0.1:0") -> tuple[WorkerProcess, str]:
        """Starts a worker; returns it and its address once it takes requests and is announced to the router."""
        extra = {"routers": self.router.admin_address} if self.how == "registered" else {}
        worker = await WorkerProcess.start(listen=listen, **SETTINGS, **extra)
        self.stack.push_async_callback(worker.stop)
        address = await worker.ready()
        self.names.append(address)
        self._write()
        return worker, address

    async def restart(self, worker: WorkerProcess, address: str) -> str:
        """Stops a worker as an orchestrator does and starts another; returns its address, which only a file's keeps."""
        assert await worker.stop(signal.SIGTERM) == 0
        self.names.remove(address)
        _, fresh = await self.start(address if self.how == "file" else "127.0.0.1:0")
        return fresh

    def _write(self) -> None:
        (self.folder / "workers").write_text("".join(f"{name}\n" for name in self.names))

    async def resolve(self, _host: str, _port: int) -> list[str]:
        """Answers in place of a DNS server."""
        return list(self.names)


@asynccontextmanager
async def mesh(how: str, folder: Path, count: int = WORKERS) -> AsyncIterator[tuple[Pool, dict[str, WorkerProcess]]]:
    """A pool with `count` workers that are ready, and their processes by address."""
    async with AsyncExitStack() as stack:
        pool = Pool(how, stack, folder)
        workers: dict[str, WorkerProcess] = {}
        (folder / "workers").touch()
        router = await stack.enter_async_context(pool.start_router())
        for started in await asyncio.gather(*(pool.start() for _ in range(count))):
            workers[started[1]] = started[0]
        await all_ready(router, set(workers))
        yield pool, workers


async def all_ready(router: RunningRouter, addresses: set[str]) -> list[admin_pb2.Endpoint]:
    """The endpoints, once all of these are ready."""
    return await router.endpoints_when(
        lambda listed: (
            addresses <= {e.address for e in listed if e.connected and e.report.state == pb.ENDPOINT_STATE_READY}
        )
    )


def is_drained(endpoint: admin_pb2.Endpoint, address: str) -> bool:
    report = endpoint.report
    return endpoint.address == address and report.state == pb.ENDPOINT_STATE_DRAINING and not report.load.running


@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", ["registered", "dns", "file"])
async def test_a_rolling_restart_under_load_fails_no_request(how: str, tmp_path: Path) -> None:
    async with mesh(how, tmp_path) as (pool, workers):
        load = Load(pool.router)
        await load.ask()
        addresses = set(workers)
        async with load.running():
            for address, worker in workers.items():
                await load.more(CLIENTS)
                fresh = await pool.restart(worker, address)
                addresses = addresses - {address} | {fresh}
                listed = await all_ready(pool.router, addresses)
            await load.more(3 * CLIENTS)
        assert {e.source for e in listed if e.address in addresses} == {how}
        assert set(load.texts) == {load.texts[0]}
        assert load.served_by >= addresses


@pytest.mark.timeout(120)
@pytest.mark.parametrize("move_after_s", [None, 0.1])
async def test_a_drain_under_load_fails_no_request(move_after_s: float | None, tmp_path: Path) -> None:
    async with mesh("registered", tmp_path, count=2) as (pool, workers):
        admin, load = admin_pb2_grpc.AdminServiceStub(pool.router.admin_channel), Load(pool.router)
        drained, *_ = workers
        async with load.running():
            await load.more(2 * CLIENTS)
            answer = await admin.DrainEndpoint(
                admin_pb2.DrainEndpointRequest(address=drained, move_after_s=move_after_s), timeout=30
            )
            assert move_after_s is not None or answer.moved == 0
            await pool.router.endpoints_when(lambda es: any(is_drained(e, drained) for e in es))
            await load.more(2 * CLIENTS)  # the requests that were moved had begun there
            load.served_by.clear()
            await load.more(3 * CLIENTS)
            assert drained not in load.served_by
            await admin.ResumeEndpoint(admin_pb2.ResumeEndpointRequest(address=drained))
            await all_ready(pool.router, set(workers))
            while drained not in load.served_by:
                await load.more(1)
        assert set(load.texts) == {load.texts[0]}
        assert load.failovers == answer.moved
