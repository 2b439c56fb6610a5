"""Each background task of a running router is made to raise once; the router serves within a second."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody
from grpc_health.v1 import health_pb2, health_pb2_grpc

from infermesh.admin.v1 import admin_pb2
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.testing.admission import until
from infermesh_router.testing.router import (
    RunningRouter,
    ScriptedWorker,
    StartWorker,
    delta,
    finished,
    running_router,
    started,
)
from infermesh_runtime.background.tasks import Backoff, TaskSupervisor
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.testing.faults import FaultyRun

KINDS = {
    "farewell",
    "frames",
    "health",
    "imports",
    "mesh observer",
    "poller",
    "resolver",
    "stall watch",
    "waiting room",
    "wishes",
    "workers file",
}
"""Every kind of background task that a router has. A new one has to be running in `busy_router`."""


class Busy:
    """A script: a request for "stay" stays until released; every other one is answered at once."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()

    async def __call__(self, request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        yield delta("Hello")
        if request.text == "stay":
            await self.may_end.wait()
        yield finished()


async def generate(router: RunningRouter, text: str, model: str = "m") -> list[pb.GenerateResponse]:
    call = router.inference.Generate(pb.GenerateRequest(model=model, text=text), timeout=30)
    return [event async for event in call]


@asynccontextmanager
async def busy_router(
    tasks: TaskSupervisor, start_worker: StartWorker, folder: Path
) -> AsyncIterator[tuple[RunningRouter, ScriptedWorker]]:
    """A router in which every kind of task runs: a stream goes on, one waits, and an endpoint that works has left."""
    script = Busy()
    free = await start_worker(script=script, load=pb.Load(max_running=64))
    # These without frames: their streams would lose their places when the task that reads frames fails.
    full = await start_worker(script=script, models=("full",), load=pb.Load(max_running=1), frames=False)
    leaving = await start_worker(script=script, models=("leaving",), frames=False)
    workers_file = folder / "workers"
    workers_file.write_text(f"{full.address}\n{leaving.address}\n")

    async def resolve(_host: str, _port: int) -> list[str]:
        return [free.address]

    async with (
        running_router(
            free.address,
            "dns:///names:1",
            workers_file=str(workers_file),
            resolve=resolve,
            tasks=tasks,
            connected=False,
        ) as router,
        asyncio.TaskGroup() as streams,
    ):
        await router.endpoints_when(lambda listed: len(listed) == 3 and all(e.connected for e in listed))
        for model in ("m", "full", "leaving"):
            streams.create_task(generate(router, "stay", model))
        for worker in (free, full, leaving):
            await until(partial(asked, worker))
        streams.create_task(generate(router, "waits", "full"))
        workers_file.write_text(f"{full.address}\n")
        await until(lambda: {task.kind for task in tasks.running} == KINDS)
        try:
            yield router, full
        finally:
            script.may_end.set()


async def serves(router: RunningRouter) -> bool:
    """Whether a native and an OpenAI request are answered. Only UNAVAILABLE, which says "try again", is False."""
    body = HttpBody(data=b'{"model": "m", "messages": [{"role": "user", "content": "hi"}]}')
    try:
        assert await generate(router, "hi")
        assert [answer async for answer in router.openai.CreateChatCompletion(body)]
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False
    return True


async def serves_within_a_second(router: RunningRouter) -> None:
    async with asyncio.timeout(1):
        while not await serves(router):  # noqa: ASYNC110 - an answer is the only sign
            await asyncio.sleep(0.02)


def asked(worker: ScriptedWorker) -> bool:
    return bool(worker.requests)


async def test_each_task_raises_once_and_the_router_serves_within_a_second(
    start_worker: StartWorker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    faults = FaultyRun()
    tasks = TaskSupervisor(run=faults)
    async with busy_router(tasks, start_worker, tmp_path) as (router, _):
        for task in tasks.running:
            before = tasks.restarts[task.kind]
            caplog.clear()
            faults.fail(task.name)
            await serves_within_a_second(router)
            assert tasks.restarts[task.kind] == before + 1, task.name
            assert any(task.name in r.getMessage() and r.exc_info for r in caplog.records), task.name
            await until(partial(faults.runs, task.name))
    assert {task for task, restarts in tasks.restarts.items() if restarts} == KINDS
    assert tasks.running == []


async def test_health_tells_of_an_essential_task_that_fails_again_and_again(start_worker: StartWorker) -> None:
    tasks = TaskSupervisor(backoff=Backoff(first_s=0.01, broken_after=2, longest_s=0.02))

    async def fail() -> None:
        raise ValueError("no luck")

    worker = await start_worker()
    async with running_router(worker.address, tasks=tasks) as router:
        health = health_pb2_grpc.HealthStub(router.channel).Watch(health_pb2.HealthCheckRequest())
        reports = router.inference.WatchHealth(pb.WatchHealthRequest(min_interval_ms=1))
        async with asyncio.timeout(10):
            assert (await health.read()).status == health_pb2.HealthCheckResponse.SERVING
            assert (await reports.read()).report.message == ""
            bad = tasks.start("bad luck", fail, essential=True)
            assert (await health.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            while (report := (await reports.read()).report).state != pb.ENDPOINT_STATE_FAILED:
                assert report.state == pb.ENDPOINT_STATE_READY
            assert "the background task 'bad luck' has failed" in report.message
            assert report.message.endswith("ValueError: no luck")
            endpoint = router.endpoint_service
            await endpoint.Resume(admin_pb2.ResumeRequest())  # changes nothing: the next state is SERVING
            bad.stop()
            assert (await health.read()).status == health_pb2.HealthCheckResponse.SERVING
        health.cancel()
        reports.cancel()
