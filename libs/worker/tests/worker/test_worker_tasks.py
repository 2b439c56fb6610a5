"""Each background task of a running worker is made to raise once; the worker serves within a few seconds."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from infermesh.admin.v1 import admin_pb2, admin_pb2_grpc
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc as pb_grpc
from infermesh_runtime.background.tasks import Backoff, TaskSupervisor
from infermesh_runtime.testing.faults import FaultyRun
from infermesh_worker.main import build_server
from infermesh_worker.testing.simulated import SimulatedSettings, backend

KINDS = {"catalog", "engine supervisor", "engine watchdog", "keep-alive", "readiness", "registration"}
"""Every kind of background task that a worker keeps running. A new one has to be running here too."""
NOBODY = "127.0.0.1:1"
ENGINE = {"engine supervisor"}
"""Without it the engine process is started again, with a new watchdog, which takes longer than a second."""


@asynccontextmanager
async def running_worker(tasks: TaskSupervisor, **fields: Any) -> AsyncIterator[grpc.aio.Channel]:
    """A worker inside this process, with its engine processes outside it."""
    settings = SimulatedSettings.model_validate({"sim_models": "idle:1MiB", "sim_itl_s": 0.001, **fields})
    server = build_server(settings, backend(settings), tasks)
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            await until_ready(channel)
            yield channel
        finally:
            await server.stop()


async def until_ready(channel: grpc.aio.Channel) -> None:
    watching = pb_grpc.InferenceServiceStub(channel).WatchHealth(pb.WatchHealthRequest(min_interval_ms=1))
    async with asyncio.timeout(60):
        async for message in watching:
            if message.report.state == pb.ENDPOINT_STATE_READY:
                break
    watching.cancel()


async def generate(channel: grpc.aio.Channel) -> None:
    request = pb.GenerateRequest(model="simulated", text="hi", stop=pb.StopConditions(max_tokens=3))
    events = [event async for event in pb_grpc.InferenceServiceStub(channel).Generate(request, timeout=30)]
    assert events[-1].HasField("finished")


async def serves(channel: grpc.aio.Channel) -> None:
    """Tries until a request is answered; only UNAVAILABLE, which says "try again", is allowed before."""
    while True:
        try:
            return await generate(channel)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.UNAVAILABLE:
                raise
        await asyncio.sleep(0.02)


async def test_each_task_raises_once_and_the_worker_serves_on(caplog: pytest.LogCaptureFixture) -> None:
    faults = FaultyRun()
    tasks, noted = TaskSupervisor(run=faults), asyncio.Event()
    tasks.listen(noted.set)
    async with running_worker(tasks, routers=NOBODY + ",dns:///localhost:1") as channel:
        await admin_pb2_grpc.EndpointServiceStub(channel).LoadModel(
            admin_pb2.LoadModelRequest(model="idle", keep_alive_s=600)
        )
        assert {task.kind for task in tasks.running} == KINDS
        for task in sorted(tasks.running, key=lambda task: task.kind in ENGINE):
            before = tasks.restarts[task.kind]
            caplog.clear()
            noted.clear()
            faults.fail(task.name)
            async with asyncio.timeout(20 if task.kind in ENGINE else 1):
                await noted.wait()
                await serves(channel)
            assert tasks.restarts[task.kind] == before + 1, task.name
            assert any(task.name in r.getMessage() and r.exc_info for r in caplog.records), task.name
    assert {kind for kind, restarts in tasks.restarts.items() if restarts} == KINDS
    assert tasks.running == []


async def test_streams_of_an_engine_process_that_nobody_watches_over_end_at_once() -> None:
    faults = FaultyRun()
    async with running_worker(TaskSupervisor(run=faults), sim_itl_s=0.05) as channel:
        request = pb.GenerateRequest(model="simulated", text="hi", stop=pb.StopConditions(max_tokens=4000))
        events = aiter(pb_grpc.InferenceServiceStub(channel).Generate(request))
        await anext(events)
        faults.fail("engine supervisor simulated")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            async for _ in events:
                pass
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "failed to watch over it" in str(caught.value.details())
        async with asyncio.timeout(20):
            await serves(channel)


async def test_health_tells_of_an_essential_task_that_fails_again_and_again() -> None:
    tasks = TaskSupervisor(backoff=Backoff(first_s=0.01, longest_s=0.02, broken_after=2))

    async def fail() -> None:
        raise ValueError("no luck")

    async with running_worker(tasks) as channel:
        bad = tasks.start("bad luck", fail, essential=True)
        watching = pb_grpc.InferenceServiceStub(channel).WatchHealth(pb.WatchHealthRequest(min_interval_ms=1))
        async with asyncio.timeout(20):
            while (report := (await watching.read()).report).state != pb.ENDPOINT_STATE_FAILED:
                pass
        assert report.message.endswith("ValueError: no luck")
        bad.stop()
        await until_ready(channel)
        await generate(channel)
        watching.cancel()
