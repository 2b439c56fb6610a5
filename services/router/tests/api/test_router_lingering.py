"""A router that stops serves new requests until those in front of it have seen in its health that it does."""

import asyncio
from typing import Any

from grpc_health.v1 import health_pb2, health_pb2_grpc

from infermesh_router.app import build_server
from infermesh_router.config.settings import RouterSettings
from infermesh_runtime.rpc.channel import open_aio_channel
from infermesh_runtime.rpc.identity import MeshIdentity


async def test_it_serves_new_requests_after_its_health_says_that_it_stops() -> None:
    options: dict[str, Any] = {"linger_s": 0.5, "drain_s": 5}
    server = build_server(RouterSettings(**options))
    port = await server.start()
    async with open_aio_channel(f"127.0.0.1:{port}", MeshIdentity(), ()) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        stopping = asyncio.ensure_future(server.stop())
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        begun_s = asyncio.get_running_loop().time()
        await stub.Check(health_pb2.HealthCheckRequest())  # a new call
        await stopping
        assert asyncio.get_running_loop().time() - begun_s >= 0.4
