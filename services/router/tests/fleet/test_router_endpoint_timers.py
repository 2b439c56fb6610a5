"""What time alone changes of an endpoint reaches the policy, even if telling of it fails at first."""

import asyncio
import time

import grpc.aio
import pytest

from infermesh_router.fleet.breaker import BreakerOptions, BreakerState
from infermesh_router.fleet.endpoint import Endpoint
from infermesh_router.relay.failed_endpoints import FailedEndpoints
from infermesh_runtime.background.tasks import Backoff, TaskSupervisor, Work


async def test_endpoint_becomes_half_open_although_telling_of_it_fails_once(caplog: pytest.LogCaptureFixture) -> None:
    tasks, told, faults = TaskSupervisor(backoff=Backoff(first_s=0.01)), asyncio.Event(), [ValueError("no luck")]

    def notify() -> None:
        if endpoint.snapshot.probing:
            if faults:
                raise faults.pop()
            told.set()

    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        breaker = BreakerOptions(consecutive_failures=1, open_min_s=0.05, jitter=0)
        endpoint = Endpoint("a:1", channel, clock=time.monotonic, notify=notify, breaker=breaker, tasks=tasks)
        endpoint.breaker.fail(probe=False)
        assert endpoint.snapshot.breaker_open
        await asyncio.wait_for(told.wait(), 5)
        assert not endpoint.snapshot.breaker_open
    assert tasks.restarts["endpoint timer"] == 1
    assert any("endpoint timer a:1" in record.getMessage() and record.exc_info for record in caplog.records)
    await tasks.close()


async def test_a_breaker_timer_that_fires_early_is_set_again() -> None:
    frozen, fired, half_open = [True], asyncio.Event(), asyncio.Event()

    async def run(_name: str, work: Work) -> None:
        await work()
        fired.set()

    def notify() -> None:
        if endpoint.breaker.state is BreakerState.HALF_OPEN:
            half_open.set()

    async with grpc.aio.insecure_channel("127.0.0.1:1") as channel:
        tasks, breaker = TaskSupervisor(run=run), BreakerOptions(consecutive_failures=1, open_min_s=0.02, jitter=0)
        endpoint = Endpoint(
            "a:1", channel, clock=lambda: 0.0 if frozen else 1.0, notify=notify, breaker=breaker, tasks=tasks
        )
        endpoint.breaker.fail(probe=False)
        await asyncio.wait_for(fired.wait(), 5)  # too early by its clock, which stands still
        assert not half_open.is_set()
        frozen.clear()
        await asyncio.wait_for(half_open.wait(), 5)
    await tasks.close()


async def test_an_endpoint_is_avoided_until_the_clock_says_so() -> None:
    times_s, tasks, over = [0.0, 0.0, 0.0, 1.0], TaskSupervisor(), asyncio.Event()
    FailedEndpoints(over.set, clock=lambda: times_s.pop(0), tasks=tasks).note("a:1")
    await asyncio.wait_for(over.wait(), 5)
    assert not times_s
    await tasks.close()
