"""A batch runs or ends though its caller leaves, and holds bodies only while their requests run."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from infermesh.inference.v1 import inference_pb2
from infermesh_router.batches.runner import BatchRunner
from infermesh_router.batches.store.batch_store import BatchStore
from infermesh_router.batches.store.batches import Batches
from infermesh_router.batches.store.kept import CANCELLED, EXPIRED, Batch, Line, StoreBounds
from infermesh_router.testing.batches import CHAT, create, ended, line, upload
from infermesh_router.testing.router import WAIT_S, StartRouter, StartWorker, say_hello
from infermesh_runtime.background.tasks import TaskSupervisor
from infermesh_runtime.errors import Unavailable
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.rpc.limits.body_budget import MIB, RETRY_AFTER_S, BodyBudget

Events = AsyncIterator[inference_pb2.GenerateResponse]
LINES = [Line(custom_id="a", body=b"{}")]


def batch_of(*, left_s: float) -> Batch:
    now_s = int(time.time())
    return Batch(id="b", owner="", endpoint=CHAT, input_file="f", created_s=now_s, expires_s=int(now_s + left_s))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[BatchStore]:
    made = BatchStore(tmp_path / "b", StoreBounds(max_bytes=MIB, max_age_s=1000))
    yield made
    await made.close()


@pytest.fixture
async def tasks() -> AsyncIterator[TaskSupervisor]:
    made = TaskSupervisor()
    yield made
    await made.close()


def runner_of(
    store: BatchStore,
    tasks: TaskSupervisor,
    bodies: BodyBudget,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> BatchRunner:
    """Runs nothing: it has no endpoints."""
    nothing = cast(Any, None)
    return BatchRunner(
        store, nothing, access=nothing, converter=nothing, tasks=tasks, bodies=bodies, at_once=1, sleep=sleep
    )


@pytest.fixture
def runner(store: BatchStore, tasks: TaskSupervisor) -> BatchRunner:
    return runner_of(store, tasks, BodyBudget(total_bytes=MIB, client_bytes=MIB))


async def leave_during(call: Coroutine[Any, Any, None], begun: asyncio.Event | None = None) -> None:
    """Cancels a call once it has begun to wait; with `begun`, when that is set."""
    first = asyncio.Event()

    async def caller() -> None:
        first.set()
        await call

    task = asyncio.create_task(caller())
    await (begun or first).wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def all_done(tasks: TaskSupervisor) -> None:
    async with asyncio.timeout(WAIT_S):
        while running := tasks.running:
            await running[0].wait()


async def test_a_new_batch_runs_though_its_caller_leaves(
    store: BatchStore, tasks: TaskSupervisor, runner: BatchRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on, add, loop = asyncio.Event(), threading.Event(), Batches.add, asyncio.get_running_loop()

    def slow_add(self: Batches, batch: Batch, lines: Sequence[Line]) -> None:
        loop.call_soon_threadsafe(begun.set)
        assert go_on.wait(WAIT_S)
        add(self, batch, lines)

    monkeypatch.setattr(Batches, "add", slow_add)
    await leave_during(runner.add(batch_of(left_s=-1), LINES), begun)
    go_on.set()
    await all_done(tasks)
    assert (await store.batches(Batches.get, "", "b")).state == EXPIRED


async def test_a_batch_is_cancelled_though_its_caller_leaves(
    store: BatchStore, tasks: TaskSupervisor, runner: BatchRunner
) -> None:
    batch, go_on = batch_of(left_s=1000), threading.Event()
    await store.batches(Batches.add, batch, LINES)
    busy = asyncio.create_task(store.batches(lambda _: go_on.wait(WAIT_S)))
    await leave_during(runner.cancel(batch))
    go_on.set()
    await busy
    await all_done(tasks)
    assert (await store.batches(Batches.get, "", "b")).state == CANCELLED


async def test_a_request_is_read_anew_each_time(
    start_worker: StartWorker, start_router: StartRouter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals, read, body = iter(range(2)), [], Batches.body

    def noted(self: Batches, batch_id: str, n: int) -> bytes:
        read.append(n)
        return body(self, batch_id, n)

    async def script(request: inference_pb2.GenerateRequest, context: RpcContext) -> Events:
        if next(refusals, None) is not None:
            raise Unavailable("Not now.", reason="BUSY", retry_after_s=0.01)
        async for event in say_hello(request, context):
            yield event

    monkeypatch.setattr(Batches, "body", noted)
    router = await start_router(await start_worker(script=script), batches_store=str(tmp_path / "b"), attempts=1)
    await ended(router, (await create(router, await upload(router, [line("a")])))["id"])
    assert read == [0, 0, 0]


async def test_a_request_waits_until_there_is_memory_for_it(store: BatchStore, tasks: TaskSupervisor) -> None:
    budget, waits = BodyBudget(total_bytes=MIB, client_bytes=MIB), asyncio.Queue[tuple[float, int]]()
    budget.take("other", MIB, refusable=False)

    async def sleep(wait_s: float) -> None:
        waits.put_nowait((wait_s, budget.held_bytes))
        await asyncio.Event().wait()

    runner = runner_of(store, tasks, budget, sleep)
    await runner.add(batch_of(left_s=1000), [Line(custom_id="a", body=b"x" * 100_000)])
    async with asyncio.timeout(WAIT_S):
        assert await waits.get() == (RETRY_AFTER_S, MIB)
    await runner.stop()
    assert await store.batches(Batches.pending, "b") == [0]


async def test_a_request_that_runs_counts_as_a_body(
    start_worker: StartWorker, start_router: StartRouter, tmp_path: Path
) -> None:
    running, finish = asyncio.Event(), asyncio.Event()

    async def script(request: inference_pb2.GenerateRequest, context: RpcContext) -> Events:
        if request.HasField("chat"):
            running.set()
            await finish.wait()
        async for event in say_hello(request, context):
            yield event

    worker = await start_worker(script=script)
    router = await start_router(worker, batches_store=str(tmp_path / "b"), body_memory_bytes=400_000)
    large = inference_pb2.GenerateRequest(model="m", text="x" * 150_000)
    asked = line("a", messages=[{"role": "user", "content": "x" * 60_000}])
    batch = await create(router, await upload(router, [asked]))
    async with asyncio.timeout(WAIT_S):
        await running.wait()
    try:
        with pytest.raises(grpc.aio.AioRpcError, match="request bodies"):
            await anext(aiter(router.inference.Generate(large)))
    finally:
        finish.set()
    assert (await ended(router, batch["id"]))["request_counts"]["completed"] == 1
    await anext(aiter(router.inference.Generate(large)))
