"""A batch runs or ends though its caller leaves, and holds no body while its request waits to be tried again."""

import asyncio
import gc
import threading
import time
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any, cast

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

LINES = [Line(custom_id="a", body=b"{}")]


def batch_of(*, left_s: float) -> Batch:
    now_s = int(time.time())
    return Batch(id="b", owner="", endpoint=CHAT, input_file="f", created_s=now_s, expires_s=int(now_s + left_s))


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[BatchStore]:
    made = BatchStore(tmp_path / "b", StoreBounds(max_bytes=1 << 20, max_age_s=1000))
    yield made
    await made.close()


@pytest.fixture
async def tasks() -> AsyncIterator[TaskSupervisor]:
    made = TaskSupervisor()
    yield made
    await made.close()


@pytest.fixture
def runner(store: BatchStore, tasks: TaskSupervisor) -> BatchRunner:
    """Runs nothing: it has no endpoints."""
    nothing = cast(Any, None)
    return BatchRunner(store, nothing, access=nothing, converter=nothing, tasks=tasks, at_once=1)


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


async def test_what_waits_to_be_tried_again_holds_no_body(
    start_worker: StartWorker, start_router: StartRouter, tmp_path: Path
) -> None:
    refused = asyncio.Event()

    async def script(
        request: inference_pb2.GenerateRequest, context: RpcContext
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        if request.chat.messages[0].content == "slow":
            refused.set()
            raise Unavailable("Not now.", reason="BUSY", retry_after_s=3600.0)
        async for event in say_hello(request, context):
            yield event

    worker = await start_worker(script=script)
    router = await start_router(worker, batches_store=str(tmp_path / "b"), attempts=1, batches_at_once=1)
    await create(router, await upload(router, [line("slow")]))
    await refused.wait()
    await ended(router, (await create(router, await upload(router, [line("fast")])))["id"])  # "slow" waits now
    gc.collect()
    bodies = [each for each in gc.get_objects() if isinstance(each, Line) and each.custom_id == "slow"]
    assert bodies == []
