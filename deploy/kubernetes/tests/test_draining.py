"""drain.sh, which Kubernetes runs before it stops Envoy, against the real Envoy."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import grpc
import httpx
import pytest
from google.api.httpbody_pb2 import HttpBody

from deploy.envoy.tests.conftest import Context, FakeRouter, envoy_options, serve
from deploy.kubernetes.tests.rendering import named, overlay, pod_of
from infermesh.inference.v1 import inference_pb2, inference_pb2_grpc
from infermesh.mesh.v1 import mesh_pb2, mesh_pb2_grpc
from infermesh_client.mesh.ports import pick_free_ports
from infermesh_envoy import Address, command, render

CHAT = "/v1/chat/completions"


@dataclass
class Chat:
    """A router whose streams go on until the test lets them end."""

    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    async def answer(self, _request: HttpBody, _context: Context) -> AsyncIterator[HttpBody]:
        yield HttpBody(content_type="text/event-stream", data=b"data: one\n\n")
        await self.may_end.wait()
        yield HttpBody(content_type="text/event-stream", data=b"data: [DONE]\n\n")


@pytest.fixture
def ports() -> list[int]:
    return pick_free_ports(3)


@pytest.fixture
async def chat(ports: list[int], tmp_path: Path) -> AsyncIterator[Chat]:
    """Behind an Envoy at the first two ports, with its admin page at the third, as in its image."""
    chat = Chat()
    async with serve(FakeRouter(chat=chat.answer)) as router_port:
        http, native = (Address("127.0.0.1", port) for port in ports[:2])
        admin, router = ports[2], Address("localhost", router_port)  # by name, as in the cluster
        options = envoy_options(router_port, tmp_path)
        config = tmp_path / "envoy.yaml"
        config.write_text(render(replace(options, http=http, grpc=native, router=router, admin_port=admin)))
        null = asyncio.subprocess.DEVNULL
        envoy = await asyncio.create_subprocess_exec(*command(config), stdout=null, stderr=null)
        async with asyncio.timeout(30), httpx.AsyncClient() as client:
            while not await is_live(client, admin):  # noqa: ASYNC110 - another process becomes so
                await asyncio.sleep(0.05)
        yield chat
        envoy.terminate()
        await envoy.wait()


async def is_live(client: httpx.AsyncClient, admin: int) -> bool:
    try:
        return (await client.get(f"http://127.0.0.1:{admin}/ready")).text.strip() == "LIVE"
    except httpx.TransportError:
        return False


async def asks_to_connect_anew(client: httpx.AsyncClient, port: int) -> bool:
    answer = await client.get(f"http://127.0.0.1:{port}/nothing")
    return bool(answer.headers.get("connection") == "close")


@asynccontextmanager
async def draining(ports: list[int], longest_s: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """The script, as the manifest runs it, once Envoy asks its clients to connect anew."""
    objects = overlay("cpu")
    pod = pod_of(named(objects, "Deployment", "envoy"))
    shell, path, port, _ = pod["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert (path, port) == ("/drain/drain.sh", "9901")
    scripts = named(objects, "ConfigMap", pod["volumes"][0]["configMap"]["name"])["data"]
    words = [shell, "-c", scripts["drain.sh"], path, str(ports[2]), str(longest_s)]
    process = await asyncio.create_subprocess_exec(*words, env={"LINGER_S": "0.1", "PATH": "/usr/bin:/bin"})
    async with asyncio.timeout(10), httpx.AsyncClient() as client:
        while not await asks_to_connect_anew(client, ports[0]):  # noqa: ASYNC110 - as above
            await asyncio.sleep(0.02)
    yield process
    await process.wait()


@asynccontextmanager
async def endless(ports: list[int]) -> AsyncIterator[None]:
    """Streams that end when their clients leave, over REST and gRPC."""
    async with (
        httpx.AsyncClient(timeout=20) as client,
        client.stream("GET", f"http://127.0.0.1:{ports[0]}/mesh/v1/events") as events,
        grpc.aio.insecure_channel(f"127.0.0.1:{ports[1]}") as channel,
    ):
        assert await anext(events.aiter_raw()) == b"event: snapshot\n\n"
        mesh, inference = mesh_pb2_grpc.MeshServiceStub(channel), inference_pb2_grpc.InferenceServiceStub(channel)
        native = mesh.WatchEvents(mesh_pb2.WatchEventsRequest())
        health = inference.WatchHealth(inference_pb2.WatchHealthRequest())
        assert (await native.read()).data
        assert await health.read() == inference_pb2.WatchHealthResponse()
        yield
        assert not native.done()
        assert not health.done()


async def test_it_waits_for_the_streams_that_run_and_not_for_endless_ones(chat: Chat, ports: list[int]) -> None:
    async with (
        endless(ports),
        httpx.AsyncClient(timeout=20) as client,
        client.stream("POST", f"http://127.0.0.1:{ports[0]}{CHAT}", json={"stream": True}) as response,
    ):
        chunks = response.aiter_raw()
        assert await anext(chunks) == b"data: one\n\n"
        async with draining(ports, 300) as process:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1):
                    await process.wait()
            chat.may_end.set()
            assert [chunk async for chunk in chunks] == [b"data: [DONE]\n\n"]
            async with asyncio.timeout(10):
                assert await process.wait() == 0


async def test_it_does_not_wait_longer_than_it_is_told(chat: Chat, ports: list[int]) -> None:
    async with (
        httpx.AsyncClient(timeout=20) as client,
        client.stream("POST", f"http://127.0.0.1:{ports[0]}{CHAT}", json={"stream": True}) as response,
    ):
        assert response.status_code == 200
        async with draining(ports, 1) as process, asyncio.timeout(10):
            assert await process.wait() == 0
        chat.may_end.set()
        assert (await response.aread()).endswith(b"data: [DONE]\n\n")
