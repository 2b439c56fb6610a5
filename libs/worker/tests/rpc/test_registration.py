"""A worker registers with its routers, registers again when they come back, and stays registered until it drained."""

import asyncio
import signal
import socket
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial

import grpc
import pytest

from infermesh.admin.v1 import admin_pb2 as pb
from infermesh.admin.v1 import admin_pb2_grpc
from infermesh.inference.v1 import inference_pb2
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.settings import SettingsError, read
from infermesh_runtime.testing.serving import plain_server
from infermesh_worker.rpc.registration import Registration, advertised_address
from infermesh_worker.settings import WorkerSettings
from infermesh_worker.testing.processes import connected, simulated_worker_process


class Routers(admin_pb2_grpc.AdminServiceServicer):
    """A router's registry, and nothing else of it."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self.changed = asyncio.Condition()

    async def RegisterEndpoint(self, request: pb.RegisterEndpointRequest, context: RpcContext) -> None:
        await self._change(self.addresses.append, request.address)
        try:
            await context.write(pb.RegisterEndpointResponse(address=request.address))
            await asyncio.Event().wait()
        finally:
            await self._change(self.addresses.remove, request.address)

    async def reach(self, addresses: list[str]) -> None:
        async with asyncio.timeout(30), self.changed:
            await self.changed.wait_for(lambda: self.addresses == addresses)

    async def _change(self, change: Callable[[str], None], address: str) -> None:
        async with self.changed:
            change(address)
            self.changed.notify_all()


@asynccontextmanager
async def router(port: int = 0) -> AsyncIterator[tuple[Routers, str]]:
    servicer = Routers()
    add_services = partial(admin_pb2_grpc.add_AdminServiceServicer_to_server, servicer)
    async with plain_server(add_services, address=f"127.0.0.1:{port}") as address:
        yield servicer, address


@asynccontextmanager
async def registered(routers: Sequence[str], advertise: str = "127.0.0.1:0", port: int = 7) -> AsyncIterator[None]:
    registration = Registration(routers, advertise, lambda: port)
    await registration.start()
    try:
        yield
    finally:
        await registration.stop()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.mark.parametrize(
    ("advertise", "address"),
    [
        ("127.0.0.1:0", "127.0.0.1:7"),
        ("127.0.0.1:9", "127.0.0.1:9"),
        ("0.0.0.0:0", ":7"),
        ("[::]:7", ":7"),
        ("[fe80::1]:0", "[fe80::1]:7"),
        ("worker-1:0", "worker-1:7"),
    ],
)
def test_what_is_advertised(advertise: str, address: str) -> None:
    assert advertised_address(advertise, 7) == address


async def test_worker_is_registered_with_every_router_while_it_lives() -> None:
    async with router() as (one, first), router() as (two, second):
        async with registered((first, second)):
            await one.reach(["127.0.0.1:7"])
            await two.reach(["127.0.0.1:7"])
        await one.reach([])
        await two.reach([])


async def test_worker_registers_again_with_a_router_that_comes_late_and_comes_back() -> None:
    port = free_port()
    async with registered((f"127.0.0.1:{port}",)):
        for _ in range(2):
            async with router(port) as (known, _):
                await known.reach(["127.0.0.1:7"])


async def test_each_address_of_a_name_is_a_router() -> None:
    async with router() as (known, address):
        async with registered((f"dns:///localhost:{address.rpartition(':')[2]}",)):
            await known.reach(["127.0.0.1:7"])
        await known.reach([])


async def test_worker_that_drains_stays_registered_until_it_is_done() -> None:
    async with router() as (known, address), simulated_worker_process(sim_itl_s=0.005, routers=address) as worker:
        listen = await worker.ready()
        await known.reach([listen])
        async with connected(worker) as stubs:
            stop = inference_pb2.StopConditions(max_tokens=100)
            running = stubs.inference.Generate(inference_pb2.GenerateRequest(text="a", stop=stop))
            await running.read()
            worker.process.send_signal(signal.SIGTERM)
            await worker.wait_for("draining")
            assert known.addresses == [listen]
            while await running.read() is not grpc.aio.EOF:
                pass
        await known.reach([])
        assert await worker.wait() == 0


@pytest.mark.parametrize("value", ["router", "router:x", "dns:///router", "http://router:1/"])
def test_malformed_router_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("INFERMESH_ROUTERS", value)
    with pytest.raises(SettingsError, match="INFERMESH_ROUTERS"):
        read(WorkerSettings)
