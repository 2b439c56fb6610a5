"""Calls to a model of tensors in its own process: shared memory, cancellation, deadlines, and its end."""

import asyncio
import os
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

from infermesh_runtime.errors import Cancelled, DeadlineExceeded, ResourceExhausted, Unavailable
from infermesh_runtime.tensors import Array
from infermesh_worker.engine_client.engine_client import EngineClient
from infermesh_worker.engine_client.engine_status import ServingState
from infermesh_worker.engine_client.request_meter import RequestMeter
from infermesh_worker.engine_client.supervisor import RestartPolicy
from infermesh_worker.engine_client.work import Work
from infermesh_worker.engine_process.frames import StartCommand
from infermesh_worker.executors.arena import Arena
from infermesh_worker.executors.wire_tensors import flatten
from infermesh_worker.testing.simulated_executor import LIVELY

pytestmark = pytest.mark.asyncio(loop_scope="module")

BUILD = "infermesh_worker.testing.simulated_executor:build"
OPTIONS: Mapping[str, Any] = {
    "device_kind": "cpu",
    "memory_bytes": 1 << 30,
    "batch_s": 0.0,
    "row_s": 0.0,
    "parallel": 1,
    "limits": {"max_size": 4},
}
MEMORY_BYTES = 1 << 20
BIG = 20_000
"""Rows whose tensors need shared memory: 320 kB."""


@asynccontextmanager
async def executor(max_silence_s: float = 120.0, **options: Any) -> AsyncIterator[EngineClient]:
    start = StartCommand(options={**OPTIONS, **options}, max_sequences=1, max_batched_tokens=1, prefix_caching=False)
    policy = RestartPolicy(first_delay_s=0.01, max_silence_s=max_silence_s)
    client = EngineClient(BUILD, start, RequestMeter(), policy, tensor_memory_bytes=MEMORY_BYTES)
    await client.start()
    try:
        await ready(client)
        yield client
    finally:
        await client.stop()


async def ready(client: EngineClient) -> None:
    async with asyncio.timeout(30):
        async for status in client.status.changes():
            if status.state is ServingState.READY:
                return


async def runs(client: EngineClient) -> None:
    async with asyncio.timeout(30):
        async for status in client.status.changes():
            if status.load.running:
                return


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def client() -> AsyncIterator[EngineClient]:
    async with executor() as started:
        yield started


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def slow() -> AsyncIterator[EngineClient]:
    async with executor(batch_s=0.2, limits={"max_size": 1}) as started:
        yield started


def work(rows: int = 1, **fields: Any) -> Work:
    x = np.arange(4 * rows, dtype=np.float32).reshape(rows, 4)
    s = np.array([b"a"] * rows, object)
    return Work(params={"outputs": ["y"]}, tensors=[flatten("x", x), flatten("s", s)], **fields)


async def answer(client: EngineClient, asked: Work) -> Array:
    async with client.running(asked) as call:
        return (await call.read()).tensors["y"].copy()


def arenas(client: EngineClient) -> tuple[Arena, Arena]:
    found = client._supervisor.arenas
    assert found is not None
    return found


async def test_a_large_tensor_is_copied_once_into_shared_memory_and_a_small_one_never(client: EngineClient) -> None:
    inbox, _ = arenas(client)
    before = inbox.copies
    assert np.array_equal(await answer(client, work(1)), [[0, 2, 4, 6]])
    assert inbox.copies == before
    async with client.running(work(BIG)) as call:
        got = await call.read()
        assert inbox.copies == before + 2  # x, and as large a tensor of strings
        assert np.shares_memory(got.tensors["y"], arenas(client)[1].view(0, MEMORY_BYTES))
        assert np.array_equal(got.tensors["y"].ravel(), 2 * np.arange(4 * BIG, dtype=np.float32))
    assert inbox.space.taken == 0


async def test_requests_wait_while_the_shared_memory_is_full(client: EngineClient) -> None:
    results = await asyncio.gather(*(answer(client, work(BIG)) for _ in range(12)))
    assert all(len(result) == BIG for result in results)
    assert arenas(client)[0].space.taken == 0


async def test_outputs_of_a_batch_that_do_not_fit_together_are_read_one_by_one() -> None:
    rows = 24_900  # its inputs take 523 kB, and its outputs 622 kB
    full = {"max_size": 2 * rows, "max_delay_ms": 60_000.0}  # begins with both
    async with executor(limits=full) as client, asyncio.timeout(20):
        asked = [replace(work(rows), params={}) for _ in range(2)]
        assert [len(result) for result in await asyncio.gather(*(answer(client, each) for each in asked))] == [rows] * 2
        assert arenas(client)[0].space.taken == 0


async def test_what_never_fits_is_refused(client: EngineClient) -> None:
    with pytest.raises(ResourceExhausted, match="INFERMESH_TENSOR_MEMORY_BYTES"):
        await answer(client, work(80_000))


async def test_a_late_request_is_dropped_before_it_runs(slow: EngineClient) -> None:
    first = asyncio.ensure_future(answer(slow, work()))
    late = asyncio.ensure_future(answer(slow, work(deadline_s=time.monotonic() + 0.05)))
    with pytest.raises(DeadlineExceeded):
        await late
    assert not first.done()  # it was dropped when its time had come, not when the device was free
    await first


async def test_a_request_that_is_left_is_cancelled_and_its_memory_is_freed(slow: EngineClient) -> None:
    running = asyncio.ensure_future(answer(slow, work()))
    await asyncio.sleep(0)  # lets it begin
    async with slow.running(work(BIG)):  # waits behind it
        assert slow.sequences == 2
    assert slow.sequences == 1
    await running
    await answer(slow, work())
    assert arenas(slow)[0].space.taken == 0
    assert slow.status.value.load.waiting == 0


async def test_larger_priorities_run_first(slow: EngineClient) -> None:
    order: list[int] = []

    async def ask(priority: int) -> None:
        await answer(slow, work(priority=priority))
        order.append(priority)

    async with asyncio.TaskGroup() as group:
        for priority in (0, 1, 9, 5):
            group.create_task(ask(priority))
    assert [priority for priority in order if priority] == [9, 5, 1]  # the device may have begun with the first to come


async def test_calls_end_when_the_process_dies_and_the_next_one_answers() -> None:
    async with executor() as client:
        os.kill(client._supervisor.engine_pid, signal.SIGSTOP)
        calls = [asyncio.ensure_future(answer(client, work(BIG))) for _ in range(5)]
        await asyncio.sleep(0)  # two take the memory, and three wait for it
        assert arenas(client)[0].space.taken == 4
        client._supervisor._link.kill()  # type: ignore[union-attr] # it runs
        async with asyncio.timeout(20):  # those that wait did not end once
            ends = await asyncio.gather(*calls, return_exceptions=True)
            reasons = [end.reason for end in ends if isinstance(end, Unavailable)]
            assert reasons == ["ENGINE_CRASHED"] * 2 + ["WORKER_LOADING"] * 3  # the process cannot have died of these
            await ready(client)
            assert len(await answer(client, work(BIG))) == BIG
        assert arenas(client)[0].space.taken == 0


async def test_a_run_that_never_ends_is_killed_although_requests_still_come() -> None:
    async with executor(batch_s=300.0, max_silence_s=1.0) as client:
        calls = [asyncio.ensure_future(answer(client, work()))]
        await runs(client)
        async with asyncio.timeout(20):
            while not calls[0].done():
                calls.append(asyncio.ensure_future(answer(client, work())))
                await asyncio.wait(calls[:1], timeout=0.1)
        for call in calls:
            with pytest.raises(Unavailable, match="silent"):
                await call


async def test_a_long_run_that_says_that_it_lives_is_left_alone() -> None:
    async with executor(batch_s=2.2, max_silence_s=1.0) as client:
        x = np.full((1, 4), LIVELY)
        tensors = [flatten("x", x), flatten("s", np.array([b"a"], object))]
        assert np.array_equal(await answer(client, Work(params={"outputs": ["y"]}, tensors=tensors)), 2 * x)


async def test_unloading_ends_the_calls() -> None:
    async with executor(batch_s=30.0) as client:
        call = asyncio.ensure_future(answer(client, work()))
        await runs(client)
        client.retire(Cancelled("unloaded"))
        with pytest.raises(Cancelled, match="unloaded"):
            await call


async def test_the_measured_time_of_a_request_is_reported(slow: EngineClient) -> None:
    await answer(slow, work())
    assert 0.15 < slow.status.value.load.request_s < 5
