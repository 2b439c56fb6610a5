"""Queueing, loading and draining as clients of a running router see them."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.admin.v1 import admin_pb2, admin_pb2_grpc
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.testing.loading.loading_worker import LoadingWorker
from infermesh_router.testing.router import RunningRouter, StartRouter, StartWorker, delta, finished, started
from infermesh_runtime.errors import ResourceExhausted, Unavailable
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.rpc.status import from_rpc_error

ONE = pb.Load(max_running=1)
StartLoadingWorker = Callable[..., Awaitable[LoadingWorker]]


class Held:
    """A script whose streams end when told to."""

    def __init__(self) -> None:
        self.may_end = asyncio.Event()

    async def __call__(self, request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        yield delta("Hello")
        await self.may_end.wait()
        yield finished()


async def generate(router: RunningRouter, **fields: Any) -> list[pb.GenerateResponse]:
    stub = router.inference
    try:
        return [event async for event in stub.Generate(pb.GenerateRequest(**{"model": "m", "text": "hi", **fields}))]
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


def endpoints(router: RunningRouter) -> admin_pb2_grpc.EndpointServiceStub:
    return admin_pb2_grpc.EndpointServiceStub(router.admin_channel)


async def queue_when(router: RunningRouter, waiting: int) -> list[admin_pb2.ModelQueue]:
    stub = router.admin
    async with asyncio.timeout(20):
        while True:
            listed = await stub.ListEndpoints(admin_pb2.ListEndpointsRequest())
            if sum(queue.waiting for queue in listed.queues) == waiting:
                return list(listed.queues)
            await asyncio.sleep(0.01)


@pytest.fixture
async def loading_worker() -> AsyncIterator[StartLoadingWorker]:
    workers: list[LoadingWorker] = []

    async def start(**fields: Any) -> LoadingWorker:
        workers.append(LoadingWorker(**fields))
        await workers[-1].start()
        return workers[-1]

    yield start
    for worker in workers:
        await worker.stop()


async def test_a_request_waits_for_room_and_is_told_so(start_worker: StartWorker, start_router: StartRouter) -> None:
    script = Held()
    worker = await start_worker(script=script, load=ONE)
    router = await start_router(worker)
    tasks = [asyncio.create_task(generate(router)) for _ in range(3)]
    (queue,) = await queue_when(router, 2)
    assert queue.model == "m"
    await asyncio.sleep(0.05)
    script.may_end.set()
    queued_ms = sorted(events[0].started.queued_ms for events in await asyncio.gather(*tasks))
    assert queued_ms[0] == 0
    assert 40 <= queued_ms[1] <= queued_ms[2]
    assert await queue_when(router, 0) == []


async def test_a_client_that_leaves_the_queue_is_forgotten(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    script = Held()
    router = await start_router(await start_worker(script=script, load=ONE))
    running = asyncio.create_task(generate(router))
    await router.endpoints_when(lambda listed: listed[0].in_flight == 1)
    calls = [router.inference.Generate(pb.GenerateRequest(model="m", text="hi")) for _ in range(50)]
    await queue_when(router, 50)
    for call in calls:
        call.cancel()
    await queue_when(router, 0)
    script.may_end.set()
    await running


async def test_a_deadline_passes_in_the_queue(start_worker: StartWorker, start_router: StartRouter) -> None:
    script = Held()
    router = await start_router(await start_worker(script=script, load=ONE))
    running = asyncio.create_task(generate(router))
    await router.endpoints_when(lambda listed: listed[0].in_flight == 1)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in router.inference.Generate(pb.GenerateRequest(model="m", text="hi"), timeout=0.1):
            pass
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    await queue_when(router, 0)
    script.may_end.set()
    await running


async def test_a_model_on_disk_is_loaded_for_the_request(
    loading_worker: StartLoadingWorker, start_router: StartRouter
) -> None:
    worker = await loading_worker()
    router = await start_router(worker.address)
    worker.may_load.clear()
    tasks = [asyncio.create_task(generate(router)) for _ in range(3)]
    await worker.asked.wait()
    await asyncio.sleep(0.05)
    worker.may_load.set()
    for events in await asyncio.gather(*tasks):
        told = events[0].started
        assert told.endpoint == worker.address
        assert 40 <= told.loading_ms <= told.queued_ms
        assert told.overhead_ms < told.loading_ms + 1000
    assert len(worker.loads) == 1
    (again,) = [(await generate(router))[0].started]
    assert (again.queued_ms, again.loading_ms) == (0, 0)


async def test_a_model_that_does_not_fit_is_refused_in_figures(
    loading_worker: StartLoadingWorker, start_router: StartRouter
) -> None:
    refusal = ResourceExhausted(
        "needs 5 bytes, free 1", reason="MODEL_DOES_NOT_FIT", metadata={"needed_bytes": "5", "free_bytes": "1"}
    )
    worker = await loading_worker(refusal=refusal)
    router = await start_router(worker.address)
    with pytest.raises(ResourceExhausted, match="needs 5 bytes, free 1") as caught:
        await generate(router)
    assert caught.value.reason == "MODEL_DOES_NOT_FIT"
    assert caught.value.metadata["free_bytes"] == "1"


async def test_the_router_loads_and_unloads(loading_worker: StartLoadingWorker, start_router: StartRouter) -> None:
    worker = await loading_worker()
    router = await start_router(worker.address)
    await endpoints(router).LoadModel(admin_pb2.LoadModelRequest(model="m", pinned=True))
    assert worker.loads[0].pinned
    assert (await generate(router))[0].started.queued_ms == 0
    await endpoints(router).UnloadModel(admin_pb2.UnloadModelRequest(model="m"))
    assert worker.models == ()


async def test_the_router_drains_and_resumes(start_worker: StartWorker, start_router: StartRouter) -> None:
    script = Held()
    router = await start_router(await start_worker(script=script, load=ONE))
    running = [asyncio.create_task(generate(router)) for _ in range(2)]
    await queue_when(router, 1)
    draining = endpoints(router).Drain(admin_pb2.DrainRequest())
    stub = router.inference
    async for answer in stub.WatchHealth(pb.WatchHealthRequest(min_interval_ms=1)):
        if answer.report.state == pb.ENDPOINT_STATE_DRAINING:
            break
    with pytest.raises(Unavailable) as caught:
        await generate(router)
    assert (caught.value.reason, caught.value.retry_after_s) == ("ROUTER_DRAINING", 1.0)
    assert not draining.done()
    script.may_end.set()
    assert [len(events) for events in await asyncio.gather(*running)] == [3, 3]  # the one that waited, too
    await draining
    await endpoints(router).Resume(admin_pb2.ResumeRequest())
    assert len(await generate(router)) == 3


async def test_rest_is_told_when_to_try_again(
    start_worker: StartWorker, start_router: StartRouter, tmp_path: Path
) -> None:
    mesh = tmp_path / "mesh.yaml"
    mesh.write_text("admission: {max_waiting: 0}\n")
    script = Held()
    router = await start_router(await start_worker(script=script, load=ONE), mesh_config=str(mesh))
    running = asyncio.create_task(generate(router))
    await router.endpoints_when(lambda listed: listed[0].in_flight == 1)
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}]}).encode()
    call = router.openai.CreateChatCompletion(HttpBody(data=body), timeout=20)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    refusal = from_rpc_error(caught.value)
    assert (type(refusal), refusal.reason) == (ResourceExhausted, "QUEUE_FULL")
    assert (refusal.retry_after_s or 0) >= 1
    script.may_end.set()
    await running
