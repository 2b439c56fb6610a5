"""Clients reach no admin RPC, by no address; operators do, by theirs."""

import os
import stat
from collections.abc import Sequence
from typing import Any

import grpc
import psutil
import pytest
from google.protobuf.message_factory import GetMessageClass
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from infermesh.admin.v1 import admin_pb2
from infermesh.inference.v1 import inference_pb2, inference_pb2_grpc
from infermesh_router.testing.router import running_router
from tests.security.conftest import Mesh

TIMEOUT_S = 10.0
ADMIN = ("AdminService", "EndpointService")
METHODS = [
    method for name in (*ADMIN, "ModelsFolderService") for method in admin_pb2.DESCRIPTOR.services_by_name[name].methods
]
"""Every admin RPC that there is, new ones included."""


async def call(channel: grpc.aio.Channel, method: Any, metadata: Sequence[tuple[str, str]] = ()) -> grpc.StatusCode:
    """The code with which an RPC with an empty request ends, or OK as soon as it answers."""
    path = f"/{method.containing_service.full_name}/{method.name}"
    answer_type = GetMessageClass(method.output_type)
    request = GetMessageClass(method.input_type)()
    kind = channel.unary_stream if method.server_streaming else channel.unary_unary
    start = kind(path, request_serializer=lambda m: m.SerializeToString(), response_deserializer=answer_type.FromString)
    running = start(request, timeout=TIMEOUT_S, metadata=metadata)
    try:
        await (running.read() if method.server_streaming else running)
    except grpc.aio.AioRpcError as error:
        return error.code()
    running.cancel()
    return grpc.StatusCode.OK


def test_there_are_admin_rpcs() -> None:
    assert {"Drain", "RegisterEndpoint", "LoadModel", "DrainEndpoint", "StartImport"} <= {
        method.name for method in METHODS
    }


@pytest.mark.parametrize("plane", ["rest", "grpc", "router"])
async def test_no_admin_rpc_on_the_client_plane(mesh: Mesh, plane: str) -> None:
    async with grpc.aio.insecure_channel(mesh.client_addresses[plane]) as channel:
        codes = {method.full_name: await call(channel, method) for method in METHODS}
        assert set(codes.values()) == {grpc.StatusCode.UNIMPLEMENTED}, codes
        stub = inference_pb2_grpc.InferenceServiceStub(channel)
        request = inference_pb2.GenerateRequest(model="m", text="hi")
        events = [event.WhichOneof("event") async for event in stub.Generate(request, timeout=TIMEOUT_S)]
    assert events[-1] == "finished"
    assert [each.address for each in await mesh.router.endpoints_when(lambda _: True)] == [mesh.worker.address]


@pytest.mark.parametrize("content_type", ["application/grpc", "application/grpc+proto", "application/grpc-web+proto"])
async def test_no_kind_of_grpc_reaches_it_over_rest(mesh: Mesh, content_type: str) -> None:
    import httpx

    async with httpx.AsyncClient(base_url=mesh.envoy.http, http1=True, timeout=TIMEOUT_S) as http:
        headers = {"content-type": content_type, "te": "trailers"}
        response = await http.post("/infermesh.admin.v1.EndpointService/Drain", content=b"\0\0\0\0\0", headers=headers)
    assert response.status_code == 404 or response.headers.get("grpc-status") == "12"
    (endpoint,) = await mesh.router.endpoints_when(lambda _: True)
    assert endpoint.connected


async def test_the_admin_plane_answers_operators(mesh: Mesh) -> None:
    listed = await mesh.router.admin.ListEndpoints(admin_pb2.ListEndpointsRequest(), timeout=TIMEOUT_S)
    assert [endpoint.address for endpoint in listed.endpoints] == [mesh.worker.address]
    await mesh.router.endpoint_service.Drain(admin_pb2.DrainRequest(), timeout=TIMEOUT_S)
    await mesh.router.endpoint_service.Resume(admin_pb2.ResumeRequest(), timeout=TIMEOUT_S)


async def test_only_this_user_can_open_the_admin_socket(mesh: Mesh) -> None:
    mode = os.stat(mesh.router.admin_address.removeprefix("unix:")).st_mode  # noqa: PTH116
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) & 0o077 == 0


def listening_at(process: psutil.Process) -> set[str]:
    connections = process.net_connections("tcp")
    return {f"{c.laddr.ip}:{c.laddr.port}" for c in connections if c.status == psutil.CONN_LISTEN}


async def test_envoy_has_no_admin_port(mesh: Mesh) -> None:
    addresses = mesh.client_addresses
    envoys = [process for process in psutil.Process().children() if process.name() == "envoy"]
    by_process = map(listening_at, envoys)  # other tests of this session may have an Envoy too
    (listening,) = (found for found in by_process if addresses["rest"] in found)
    assert addresses["grpc"] in listening
    extra = listening - {addresses["rest"], addresses["grpc"]}
    assert not extra, f"Envoy also listens at {extra}"


async def services_at(address: str) -> set[str]:
    async with grpc.aio.insecure_channel(address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="")]))
        response = await call.read()
        call.cancel()
    return {service.name for service in response.list_services_response.service}


async def test_reflection_tells_of_the_plane_it_is_on(mesh: Mesh) -> None:
    clients, operators = await services_at(mesh.envoy.grpc), await services_at(mesh.router.admin_address)
    assert not {name for name in clients if name.startswith("infermesh.admin.")}
    assert {f"infermesh.admin.v1.{name}" for name in ADMIN} <= operators


async def test_reflection_can_be_turned_off() -> None:
    async with running_router(reflection=False) as router:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await services_at(router.address)
    assert caught.value.code() == grpc.StatusCode.UNIMPLEMENTED
