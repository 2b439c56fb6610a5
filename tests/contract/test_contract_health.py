"""Health, WatchHealth, grpc.health.v1 and reflection describe the endpoint correctly."""

import asyncio

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from infermesh.inference.v1 import inference_pb2 as pb
from tests.contract.target import CONTEXT_TOKENS, MODEL, Target

SERVICE = "infermesh.inference.v1.InferenceService"
SETTLE_S = 10

pytestmark = pytest.mark.asyncio(loop_scope="session")


def check_report(report: pb.HealthReport) -> None:
    assert report.state == pb.ENDPOINT_STATE_READY
    assert not report.message
    (model,) = report.models
    assert (model.name, model.state, model.context_length) == (MODEL, pb.ENDPOINT_STATE_READY, CONTEXT_TOKENS)
    assert report.runtime
    assert report.version
    assert report.started_at.seconds > 0
    assert report.device.memory_total_bytes >= report.device.memory_free_bytes
    assert 0 <= report.load.kv_cache_usage <= 1
    assert report.load.kv_cache_tokens > 0


async def test_health(target: Target) -> None:
    report = (await target.stub.Health(pb.HealthRequest())).report
    check_report(report)
    worker = target.name == "worker"
    assert report.device.kind == (pb.DEVICE_KIND_CPU if worker else pb.DEVICE_KIND_UNSPECIFIED)


async def test_watch_health_reports_at_once_and_after_work(target: Target) -> None:
    watch = target.stub.WatchHealth(pb.WatchHealthRequest(min_interval_ms=1))
    async with asyncio.timeout(SETTLE_S):
        first = (await watch.read()).report
        check_report(first)
        stop = pb.StopConditions(max_tokens=30, ignore_eos=True)
        async for _ in target.stub.Generate(pb.GenerateRequest(text="hello", stop=stop)):
            pass
        report = first
        while report.load.generated_tokens < first.load.generated_tokens + 30 or report.load.running:
            report = (await watch.read()).report
    assert report.load.decode_tokens_per_s > 0
    watch.cancel()


@pytest.mark.parametrize("service", ["", SERVICE])
async def test_the_standard_health_service_serves(target: Target, service: str) -> None:
    stub = health_pb2_grpc.HealthStub(target.channel)
    reply = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    assert reply.status == health_pb2.HealthCheckResponse.SERVING


async def test_the_standard_health_service_refuses_unknown_names(target: Target) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as unknown:
        await health_pb2_grpc.HealthStub(target.channel).Check(health_pb2.HealthCheckRequest(service="no.Such"))
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


async def test_reflection_describes_the_services(target: Target) -> None:
    call = reflection_pb2_grpc.ServerReflectionStub(target.channel).ServerReflectionInfo()
    await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
    names = {service.name for service in (await call.read()).list_services_response.service}
    assert {SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"} <= names
    if target.name == "router":
        assert "infermesh.openai.v1.OpenAIService" in names
        assert "infermesh.admin.v1.AdminService" not in names
    await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE))
    files = (await call.read()).file_descriptor_response.file_descriptor_proto
    await call.done_writing()
    assert FileDescriptorProto.FromString(files[0]).package == "infermesh.inference.v1"


async def test_the_request_id_comes_back(target: Target) -> None:
    call = target.stub.Health(pb.HealthRequest(), metadata=(("x-request-id", "mine"),))
    await call
    assert dict(await call.initial_metadata())["x-request-id"] == "mine"
