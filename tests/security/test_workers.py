"""A worker obeys and serves only its mesh."""

from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from infermesh.admin.v1 import admin_pb2
from infermesh.inference.v1 import inference_pb2
from infermesh_router.testing.router import running_router
from infermesh_runtime.rpc.mesh_token import MESH_TOKEN_KEY
from infermesh_worker.testing.processes import simulated_worker
from tests.security.test_planes import TIMEOUT_S, call

pytestmark = pytest.mark.asyncio(loop_scope="module")
TOKEN = "a-token-of-this-mesh"
METHODS = [
    *admin_pb2.DESCRIPTOR.services_by_name["EndpointService"].methods,
    *admin_pb2.DESCRIPTOR.services_by_name["ModelsFolderService"].methods,
    *inference_pb2.DESCRIPTOR.services_by_name["InferenceService"].methods,
]


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def worker() -> AsyncIterator[str]:
    async with simulated_worker(model="m", mesh_token=TOKEN) as address:
        yield address


@pytest.mark.parametrize("token", [None, "", "wrong", TOKEN + " "])
async def test_strangers_may_do_nothing(worker: str, token: str | None) -> None:
    metadata = () if token is None else ((MESH_TOKEN_KEY, token),)
    async with grpc.aio.insecure_channel(worker) as channel:
        codes = {method.full_name: await call(channel, method, metadata) for method in METHODS}
    assert set(codes.values()) == {grpc.StatusCode.UNAUTHENTICATED}, codes


async def test_probes_need_no_token(worker: str) -> None:
    async with grpc.aio.insecure_channel(worker) as channel:
        probe = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
        assert (await probe).status == health_pb2.HealthCheckResponse.SERVING


async def test_its_router_may(worker: str) -> None:
    async with running_router(worker, mesh_token=TOKEN) as router:
        request = inference_pb2.GenerateRequest(model="m", text="hi", stop=inference_pb2.StopConditions(max_tokens=3))
        events = [event async for event in router.inference.Generate(request, timeout=30)]
        assert events[-1].HasField("finished")
        await router.admin.DrainEndpoint(admin_pb2.DrainEndpointRequest(address=worker), timeout=30)
        await router.admin.ResumeEndpoint(admin_pb2.ResumeEndpointRequest(address=worker), timeout=30)
        await router.endpoint_service.LoadModel(admin_pb2.LoadModelRequest(model="m", pinned=True), timeout=30)


async def test_another_mesh_s_router_may_not(worker: str) -> None:
    async with running_router(worker, mesh_token="other", connected=False) as router:
        (endpoint,) = await router.endpoints_when(lambda listed: bool(listed[0].last_error))
        assert "UNAUTHENTICATED" in endpoint.last_error
        assert not endpoint.connected
