"""Drain, resume and SIGTERM of a worker, while requests run and models load."""

import signal
from collections.abc import Awaitable

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from infermesh.admin.v1 import admin_pb2 as admin
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.errors import Code, InfermeshError
from infermesh_runtime.rpc.status import from_rpc_error
from infermesh_worker.testing.processes import WorkerProcess, connected, simulated_worker_process


def ask(max_tokens: int) -> pb.GenerateRequest:
    return pb.GenerateRequest(text="a", stop=pb.StopConditions(max_tokens=max_tokens))


async def refused(call: Awaitable[object]) -> InfermeshError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return from_rpc_error(caught.value)


async def served(worker: WorkerProcess, expected: int) -> None:
    """Returns when grpc.health.v1 says so."""
    async with grpc.aio.insecure_channel(await worker.address()) as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(), timeout=20)
        async for response in watch:
            if response.status == expected:
                return
    raise AssertionError("the health stream ended")


async def test_drain_refuses_new_requests_waits_for_the_running_ones_and_is_undone() -> None:
    async with simulated_worker_process(sim_itl_s=0.002) as worker, connected(worker) as stubs:
        running = stubs.inference.Generate(ask(max_tokens=300))
        await running.read()
        draining = stubs.endpoint.Drain(admin.DrainRequest(), timeout=30)
        await stubs.report_when(lambda report: report.state == pb.ENDPOINT_STATE_DRAINING)
        await served(worker, health_pb2.HealthCheckResponse.NOT_SERVING)
        error = await refused(stubs.inference.Generate(ask(1)).read())
        assert (error.code, error.reason) == (Code.UNAVAILABLE, "WORKER_DRAINING")
        assert not draining.done()
        last = pb.GenerateResponse()
        while (event := await running.read()) is not grpc.aio.EOF:
            last = event
        assert last.finished.usage.completion_tokens == 300
        await draining
        await stubs.endpoint.Drain(admin.DrainRequest(), timeout=30)
        await stubs.endpoint.Resume(admin.ResumeRequest())
        await stubs.report_when(lambda report: report.state == pb.ENDPOINT_STATE_READY)
        await served(worker, health_pb2.HealthCheckResponse.SERVING)
        assert (await stubs.inference.Generate(ask(1)).read()).HasField("started")


async def test_who_drains_is_told_when_somebody_resumes() -> None:
    async with simulated_worker_process(sim_itl_s=0.002) as worker, connected(worker) as stubs:
        running = stubs.inference.Generate(ask(max_tokens=8000))
        await running.read()
        draining = stubs.endpoint.Drain(admin.DrainRequest(), timeout=30)
        await stubs.report_when(lambda report: report.state == pb.ENDPOINT_STATE_DRAINING)
        await stubs.endpoint.Resume(admin.ResumeRequest())
        error = await refused(draining)
        assert (error.code, error.reason) == (Code.FAILED_PRECONDITION, "RESUMED")


async def test_drained_worker_still_loads_models() -> None:
    settings = {"sim_models": "a:1,b:1", "model": "none"}
    async with simulated_worker_process(**settings) as worker, connected(worker) as stubs:
        await stubs.endpoint.Drain(admin.DrainRequest(), timeout=30)
        await stubs.load("a")
        await stubs.endpoint.Resume(admin.ResumeRequest())
        assert (await stubs.inference.Generate(ask(1)).read()).started.model == "a"


async def test_sigterm_ends_a_load_and_lets_streams_finish() -> None:
    settings = {"sim_models": "a:1,b:1", "model": "none", "sim_itl_s": 0.005, "sim_load_s": 1}
    async with simulated_worker_process(**settings) as worker, connected(worker) as stubs:
        await stubs.load("a")
        running = stubs.inference.Generate(ask(max_tokens=100))
        await running.read()
        loading = stubs.endpoint.LoadModel(admin.LoadModelRequest(model="b"))
        await stubs.report_when(lambda report: len(report.models) == 2)
        worker.process.send_signal(signal.SIGTERM)
        error = await refused(loading)
        assert (error.code, error.reason) == (Code.UNAVAILABLE, "WORKER_DRAINING")
        last = pb.GenerateResponse()
        while (event := await running.read()) is not grpc.aio.EOF:
            last = event
        assert last.HasField("finished")
        assert await worker.wait() == 0
