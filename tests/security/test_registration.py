"""Nobody becomes a worker, and reads other people's prompts, without the mesh token."""

import logging
from typing import Any

import grpc
import pytest

from infermesh.admin.v1 import admin_pb2 as pb
from infermesh.admin.v1 import admin_pb2_grpc as pb_grpc
from infermesh.inference.v1 import inference_pb2
from infermesh_router.testing.router import RunningRouter, ScriptedWorker, running_router
from infermesh_runtime.rpc.channel import open_aio_channel
from infermesh_runtime.rpc.identity import MeshIdentity
from infermesh_worker.rpc.registration import Registration
from tests.security.conftest import Mesh

TOKEN = "a-token-of-this-mesh"
TCP: dict[str, Any] = {"admin_listen": "127.0.0.1:0", "mesh_token": TOKEN}


async def register(address: str, router: str, token: str) -> grpc.StatusCode:
    """Registers `address` for a moment; the code that refuses it, or OK."""
    async with open_aio_channel(router, MeshIdentity(token=token), ()) as channel:
        call = pb_grpc.AdminServiceStub(channel).RegisterEndpoint(pb.RegisterEndpointRequest(address=address))
        try:
            await call.read()
        except grpc.aio.AioRpcError as error:
            return error.code()
    return grpc.StatusCode.OK


async def ask(router: RunningRouter) -> str:
    """The endpoint that gets a prompt."""
    request = inference_pb2.GenerateRequest(model="m", text="a secret")
    events = [event async for event in router.inference.Generate(request, timeout=10)]
    return str(events[0].started.endpoint)


async def test_a_fake_worker_gets_no_prompt_through_envoy(mesh: Mesh) -> None:
    fake = ScriptedWorker()
    await fake.start()
    for address in mesh.client_addresses.values():
        assert await register(fake.address, address, "") == grpc.StatusCode.UNIMPLEMENTED
        assert await register(fake.address, address, TOKEN) == grpc.StatusCode.UNIMPLEMENTED
    assert {await ask(mesh.router) for _ in range(6)} == {mesh.worker.address}
    assert not fake.requests
    await fake.stop()


@pytest.mark.parametrize("token", ["", "wrong", TOKEN + "x", TOKEN[:-1]])
async def test_a_fake_worker_does_not_know_the_token(token: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "infermesh.audit")
    async with running_router(**TCP) as router:
        # The port is closed, but the caller does not learn that.
        assert await register("127.0.0.1:1", router.admin_address, token) == grpc.StatusCode.UNAUTHENTICATED
        assert not (await router.admin.ListEndpoints(pb.ListEndpointsRequest(), timeout=10)).endpoints
    (line,) = [record for record in caplog.records if record.name == "infermesh.audit"]
    assert (vars(line)["result"], vars(line)["who"]) == ("UNAUTHENTICATED", "unknown")
    assert vars(line)["action"].endswith("RegisterEndpoint")


async def test_a_worker_with_the_token_registers() -> None:
    worker = ScriptedWorker()
    await worker.start()
    async with running_router(**TCP) as router:
        port = int(worker.address.rpartition(":")[2])
        registration = Registration(
            [router.admin_address], "127.0.0.1:0", lambda: port, identity=MeshIdentity(token=TOKEN)
        )
        await registration.start()
        await router.endpoints_when(lambda listed: len(listed) == 1 and listed[0].connected)
        assert await ask(router) == worker.address
        await registration.stop()
    await worker.stop()


async def test_every_order_leaves_a_line(mesh: Mesh, caplog: pytest.LogCaptureFixture) -> None:
    """Who, what and the result; when is in every line of the log."""
    caplog.set_level(logging.INFO, "infermesh.audit")
    with pytest.raises(grpc.aio.AioRpcError):
        await mesh.router.admin.DrainEndpoint(pb.DrainEndpointRequest(address="no.such:1"), timeout=10)
    await mesh.router.endpoint_service.Drain(pb.DrainRequest(), timeout=10)
    await mesh.router.endpoint_service.Resume(pb.ResumeRequest(), timeout=10)
    call = mesh.router.admin.RegisterEndpoint(pb.RegisterEndpointRequest(address="127.0.0.1:1"))
    await call.read()
    call.cancel()
    await mesh.router.endpoints_when(lambda listed: len(listed) == 1)
    lines = [vars(record) for record in caplog.records if record.name == "infermesh.audit"]
    assert [(line["action"], line["result"]) for line in lines] == [
        ("DrainEndpoint", "NOT_FOUND"),
        ("Drain", "OK"),
        ("Resume", "OK"),
        ("RegisterEndpoint", "BEGUN"),
        ("RegisterEndpoint", "ENDED"),
    ]
    assert lines[0]["target"] == {"address": "no.such:1"}
    assert {line["who"] for line in lines} == {"owner of the socket"}


async def test_who_showed_the_token_is_in_the_line(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "infermesh.audit")
    async with running_router(**TCP) as router:
        await router.endpoint_service.Drain(pb.DrainRequest(), timeout=10)
    (line,) = [vars(record) for record in caplog.records if record.name == "infermesh.audit"]
    assert (line["who"], line["peer"].split(":")[0], line["result"]) == ("mesh token", "ipv4", "OK")
    assert TOKEN not in str(line)


@pytest.mark.parametrize("address", ["169.254.169.254:80", "metadata.internal:80", "[::1]:9", "127.0.0.2:9"])
async def test_only_allowed_networks_are_dialled(address: str) -> None:
    async with running_router(**TCP, registration_networks="127.0.0.1/32,10.0.0.0/8") as router:
        assert await register(address, router.admin_address, TOKEN) == grpc.StatusCode.PERMISSION_DENIED
        assert await register("10.1.2.3:9", router.admin_address, TOKEN) == grpc.StatusCode.OK
        listed = (await router.admin.ListEndpoints(pb.ListEndpointsRequest(), timeout=10)).endpoints
    assert address not in {endpoint.address for endpoint in listed}
