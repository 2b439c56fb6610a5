"""What happens when a process of a worker dies, hangs, cannot start, or is told to stop."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from infermesh_runtime.errors import Code
from infermesh_runtime.rpc.status import from_rpc_error
from infermesh_worker.testing import processes
from infermesh_worker.testing.processes import WorkerProcess, simulated_worker_process


def endless(**fields: Any) -> pb.GenerateRequest:
    return pb.GenerateRequest(text="hello", stop=pb.StopConditions(max_tokens=8000), **fields)


@asynccontextmanager
async def connected(worker: WorkerProcess) -> AsyncIterator[InferenceServiceStub]:
    async with processes.connected(worker) as stubs:
        yield stubs.inference


async def last(call: Any) -> pb.GenerateResponse:
    """The last event of a stream that was read from before."""
    event = pb.GenerateResponse()
    while (read := await call.read()) is not grpc.aio.EOF:
        event = read
    return event


async def wait_gone(pid: int) -> None:
    """Returns when the process has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    gone = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(descriptor, gone.set)
    try:
        await asyncio.wait_for(gone.wait(), 20)
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)


async def reach(stub: InferenceServiceStub, state: pb.EndpointState) -> pb.HealthReport:
    watch = stub.WatchHealth(pb.WatchHealthRequest(min_interval_ms=1), timeout=30)
    async for response in watch:
        report: pb.HealthReport = response.report
        if report.state == state:
            watch.cancel()
            return report
    raise AssertionError("the health stream ended")


async def test_killed_engine_ends_streams_and_comes_back() -> None:
    async with simulated_worker_process(sim_itl_s=0.001) as worker, connected(worker) as stub:
        calls = [stub.Generate(endless()) for _ in range(3)]
        for call in calls:
            await call.read()
        os.kill((await worker.wait_for("engine started"))["engine_pid"], signal.SIGKILL)
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await last(call)
            error = from_rpc_error(caught.value)
            assert (error.code, error.reason) == (Code.UNAVAILABLE, "ENGINE_CRASHED")
            assert "killed by SIGKILL" in error.message
            assert error.retry_after_s
        await reach(stub, pb.ENDPOINT_STATE_READY)
        assert (await stub.Generate(endless(), timeout=30).read()).HasField("started")


async def test_engine_that_hangs_is_killed_and_comes_back() -> None:
    async with simulated_worker_process(sim_itl_s=0.001, engine_timeout_s=1) as worker, connected(worker) as stub:
        calls = [stub.Generate(endless(), timeout=60) for _ in range(2)]
        for call in calls:
            await call.read()
        os.kill((await worker.wait_for("engine started"))["engine_pid"], signal.SIGSTOP)
        for call in calls:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await last(call)
            error = from_rpc_error(caught.value)
            assert (error.code, error.reason) == (Code.UNAVAILABLE, "ENGINE_CRASHED")
            assert "was silent for 1 s" in error.message
        await reach(stub, pb.ENDPOINT_STATE_READY)
        assert (await stub.Generate(endless(), timeout=30).read()).HasField("started")


async def test_health_says_loading_and_why_while_the_engine_restarts() -> None:
    async with simulated_worker_process() as worker, connected(worker) as stub:
        watch = stub.WatchHealth(pb.WatchHealthRequest(min_interval_ms=1), timeout=30)
        assert (await watch.read()).report.state == pb.ENDPOINT_STATE_READY
        os.kill((await worker.wait_for("engine started"))["engine_pid"], signal.SIGKILL)
        report = (await watch.read()).report
        assert report.state == pb.ENDPOINT_STATE_LOADING
        assert "killed by SIGKILL" in report.message
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Generate(endless()).read()
        error = from_rpc_error(caught.value)
        assert (error.code, error.reason, error.retry_after_s) == (Code.UNAVAILABLE, "WORKER_LOADING", 1)
        while report.state != pb.ENDPOINT_STATE_READY:
            report = (await watch.read()).report
        watch.cancel()


async def test_killed_front_takes_the_engine_with_it() -> None:
    async with simulated_worker_process() as worker:
        await worker.ready()
        engine_pid = (await worker.wait_for("engine started"))["engine_pid"]
        worker.process.kill()
        await wait_gone(engine_pid)
        assert await worker.wait() == -signal.SIGKILL


async def test_sigterm_lets_running_streams_finish() -> None:
    async with simulated_worker_process(sim_itl_s=0.005) as worker, connected(worker) as stub:
        engine_pid = (await worker.wait_for("engine started"))["engine_pid"]
        call = stub.Generate(pb.GenerateRequest(text="a", stop=pb.StopConditions(max_tokens=100)))
        watch = stub.WatchHealth(pb.WatchHealthRequest(min_interval_ms=1))
        await call.read()
        worker.process.send_signal(signal.SIGTERM)
        states = [response.report.state async for response in watch]
        assert states[-1] == pb.ENDPOINT_STATE_DRAINING
        assert (await last(call)).finished.usage.completion_tokens == 100
        assert await worker.wait() == 0
        await wait_gone(engine_pid)


async def test_new_requests_are_refused_while_draining() -> None:
    async with simulated_worker_process(sim_itl_s=0.005) as worker, connected(worker) as stub:
        call = stub.Generate(pb.GenerateRequest(text="a", stop=pb.StopConditions(max_tokens=200)))
        await call.read()
        worker.process.send_signal(signal.SIGTERM)
        await worker.wait_for("draining")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.Generate(endless()).read()
        assert from_rpc_error(caught.value).reason == "WORKER_DRAINING"
        assert (await last(call)).HasField("finished")


async def test_stream_that_outlasts_the_drain_is_told() -> None:
    async with simulated_worker_process(sim_itl_s=0.01, drain_s=0.2) as worker, connected(worker) as stub:
        call = stub.Generate(endless())
        await call.read()
        worker.process.send_signal(signal.SIGTERM)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await last(call)
        assert from_rpc_error(caught.value).reason == "WORKER_DRAINING"
        assert await worker.wait() == 0


async def test_signal_to_the_whole_group_still_drains() -> None:
    async with simulated_worker_process(sim_itl_s=0.005) as worker, connected(worker) as stub:
        engine_pid = (await worker.wait_for("engine started"))["engine_pid"]
        call = stub.Generate(pb.GenerateRequest(text="a", stop=pb.StopConditions(max_tokens=50)))
        await call.read()
        for pid in (engine_pid, worker.pid):
            os.kill(pid, signal.SIGINT)
        assert (await last(call)).HasField("finished")
        assert await worker.wait() == 0


async def test_bad_settings_stop_the_start_with_one_line() -> None:
    async with simulated_worker_process(max_sequences=9, max_batched_tokens=8) as worker:
        assert await worker.wait() == 2
        assert [line["message"] for line in worker.log] == [
            "settings: INFERMESH_MAX_SEQUENCES must not exceed INFERMESH_MAX_BATCHED_TOKENS"
        ]
