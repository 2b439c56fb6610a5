"""Routers that find each other behind one DNS name: a fake resolver, and real routers at 127.0.0.x."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from pydantic import ValidationError

from infermesh.admin.v1 import admin_pb2 as pb
from infermesh.admin.v1 import admin_pb2_grpc as pb_grpc
from infermesh.mesh.v1 import mesh_pb2
from infermesh_router.config.settings import RouterSettings
from infermesh_router.membership import named_siblings
from infermesh_router.membership.named_siblings import NamedSiblings
from infermesh_router.membership.target import parse_target
from infermesh_router.siblings.siblings import Siblings
from infermesh_router.testing.keyed import generate
from infermesh_router.testing.keys import bearer, write_keys_of
from infermesh_router.testing.router import RunningRouter, ScriptedWorker, StartWorker, running_router
from infermesh_runtime.background.tasks import TaskSupervisor

TOKEN: dict[str, Any] = {"insecure": True, "mesh_token": "secret"}


@dataclass
class Names:
    """A resolver with one name."""

    hosts: list[str] = field(default_factory=list)
    asked: int = 0

    async def __call__(self, _host: str, port: int) -> list[str]:
        self.asked += 1
        if not self.hosts:
            raise socket.gaierror(socket.EAI_NONAME, "no such name")
        return [f"{host}:{port}" for host in self.hosts]


@dataclass
class Other(pb_grpc.AdminServiceServicer):
    """What a router tells another one. Without an instance it is of an earlier version."""

    instance: str
    watched: asyncio.Event = field(default_factory=asyncio.Event)

    async def WatchRouter(
        self, request: pb.WatchRouterRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[pb.WatchRouterResponse]:
        self.watched.set()
        if not self.instance:
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "no such method")
        yield pb.WatchRouterResponse(instance=self.instance)
        await asyncio.Event().wait()


@pytest.fixture
def port() -> int:
    """One that is free at every address of this machine."""
    with socket.socket() as free:
        free.bind(("", 0))
        found: int = free.getsockname()[1]
        return found


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(named_siblings, "RETRY_S", 0.02)


async def serve(host: str, port: int, router: Other) -> grpc.aio.Server:
    server = grpc.aio.server()
    pb_grpc.add_AdminServiceServicer_to_server(router, server)
    server.add_insecure_port(f"{host}:{port}")
    await server.start()
    return server


@asynccontextmanager
async def following(names: Names, port: int, *, interval_s: float = 3600) -> AsyncIterator[Siblings]:
    tasks, siblings = TaskSupervisor(), Siblings(named=True)
    target = parse_target(f"dns:///routers:{port}")
    named = NamedSiblings(siblings, targets=[target], resolve=names, resolve_interval_s=interval_s, tasks=tasks)
    await named.start()
    yield siblings
    await named.close()
    assert not tasks.restarts["sibling"]
    await tasks.close()


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - siblings come and go without telling tests
            await asyncio.sleep(0.005)


async def test_it_does_not_take_itself_for_another_and_each_other_for_one(port: int) -> None:
    """Whatever their addresses: one has two, and one is of an earlier version, which says nothing of itself."""
    hosts = [f"127.0.0.{number}" for number in range(2, 6)]
    others = [Other("twice"), Other("twice"), Other("")]
    servers = [await serve(host, port, each) for host, each in zip(hosts, others, strict=False)]
    async with following(Names(hosts), port) as siblings:
        await until(lambda: siblings.routers == 3)
        itself = Other(siblings.instance)
        servers.append(await serve(hosts[3], port, itself))
        async with asyncio.timeout(10):
            await itself.watched.wait()
        async with aclosing(siblings.watch(f"{hosts[3]}:{port}")) as instances:
            assert await anext(instances) == siblings.instance  # so the first answer is known
        assert siblings.routers == 3
        await asyncio.gather(*(server.stop(None) for server in servers))


async def test_names_are_resolved_at_once_when_one_goes(port: int) -> None:
    names = Names(["127.0.0.2", "127.0.0.3"])
    servers = [await serve(host, port, Other(host)) for host in names.hosts]
    async with following(names, port) as siblings:
        await until(lambda: siblings.routers == 3)
        assert names.asked == 1
        names.hosts = ["127.0.0.3"]
        await servers[0].stop(None)
        await until(lambda: siblings.routers == 2)
        assert names.asked > 1
    await servers[1].stop(None)


async def test_one_that_a_name_still_has_counts_while_it_restarts(port: int) -> None:
    names = Names(["127.0.0.2"])
    server = await serve("127.0.0.2", port, Other("first run"))
    async with following(names, port) as siblings:
        await until(lambda: siblings.routers == 2)
        await server.stop(None)
        await until(lambda: names.asked > 2)
        assert siblings.routers == 2
        again = Other("second run")
        server = await serve("127.0.0.2", port, again)
        async with asyncio.timeout(10):
            await again.watched.wait()
        assert siblings.routers == 2
    await server.stop(None)


async def test_a_name_that_does_not_resolve_yet_is_no_error(port: int) -> None:
    names = Names()
    server = await serve("127.0.0.2", port, Other("other"))
    async with following(names, port, interval_s=0.01) as siblings:
        await until(lambda: names.asked > 2)
        assert (siblings.routers, siblings.none_ever) == (1, False)
        names.hosts = ["127.0.0.2"]
        await until(lambda: siblings.routers == 2)
        names.hosts = []
        await until(lambda: siblings.routers == 1)
    await server.stop(None)


async def limit_of(router: RunningRouter) -> str:
    return (await generate(router, bearer("k")))["x-ratelimit-limit-requests"]


async def limits_become(routers: list[RunningRouter], limit: str) -> None:
    async with asyncio.timeout(10):
        while {await limit_of(router) for router in routers} != {limit}:  # noqa: ASYNC110 - same
            await asyncio.sleep(0.02)


async def test_routers_join_share_and_leave(tmp_path: Path, port: int, start_worker: StartWorker) -> None:
    """Each has a worker of its own, which all of them show and manage, and a share of the key's limit."""
    workers: list[ScriptedWorker] = [await start_worker() for _ in range(3)]
    names = Names()
    options: dict[str, Any] = {"siblings": (f"dns:///routers:{port}",), "resolve_interval_s": 0.02, **TOKEN,
               "keys_file": write_keys_of(tmp_path / "keys.json", k={"requests_per_minute": 6000})}  # fmt: skip
    async with AsyncExitStack() as running:

        def start(number: int, stack: AsyncExitStack) -> "asyncio.Future[RunningRouter]":
            names.hosts.append(f"127.0.0.{number + 1}")
            router = running_router(
                workers[number].address, resolve=names, admin_listen=f"127.0.0.{number + 1}:{port}", **options
            )
            return asyncio.ensure_future(stack.enter_async_context(router))

        one = await start(0, running)
        await limits_become([one], "6000")
        two = await start(1, running)
        third = AsyncExitStack()
        three = await start(2, third)
        await limits_become([one, two, three], "2000")
        for router in (one, two, three):
            await router.endpoints_when(lambda listed: len(listed) == 3)
        await generate(three, (*bearer("k"), ("x-request-id", "at three")))
        receipt = await one.mesh.GetReceipt(mesh_pb2.GetReceiptRequest(request_id="at three"), metadata=bearer("k"))
        assert receipt.endpoint == workers[2].address
        names.hosts.pop()
        await third.aclose()
        await limits_become([one, two], "3000")
        await two.endpoints_when(lambda listed: len(listed) == 2)


def configured(**settings: Any) -> RouterSettings:
    return RouterSettings(**settings)


def test_names_need_no_count_and_are_checked() -> None:
    settings = configured(siblings=("dns:///router:8084", "unix:/s.sock"), router_count=5)
    assert settings.several_routers
    assert settings.sibling_addresses() == ("unix:/s.sock",)
    assert [target.address for target in settings.sibling_targets()] == ["router:8084"]
    for bad in ("dns:///router", "dns:///router:0"):
        with pytest.raises(ValidationError):
            configured(siblings=(bad,))
    with pytest.raises(ValidationError, match="set INFERMESH_ROUTER_COUNT to 2"):
        configured(siblings=("unix:/s.sock",), router_count=5)
