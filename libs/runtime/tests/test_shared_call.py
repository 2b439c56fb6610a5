"""Work with a result runs once under the supervisor, and all who wait for it learn its outcome."""

import asyncio

import pytest

from infermesh_runtime.background.shared_call import SharedCall
from infermesh_runtime.background.tasks import Backoff, TaskSupervisor
from infermesh_runtime.errors import Unavailable


def supervisor() -> TaskSupervisor:
    return TaskSupervisor(backoff=Backoff(first_s=0.001))


async def test_the_result_reaches_every_caller_and_the_work_goes_on_when_one_leaves() -> None:
    tasks, may_end, runs = supervisor(), asyncio.Event(), 0

    async def work() -> int:
        nonlocal runs
        runs += 1
        await may_end.wait()
        return 7

    call = SharedCall(tasks, "load", work, about="m")
    callers = [asyncio.create_task(call.result()) for _ in range(3)]
    await asyncio.sleep(0)
    callers[0].cancel()
    assert [task.name for task in tasks.running] == ["load m"]
    may_end.set()
    assert await asyncio.gather(*callers[1:]) == [7, 7]
    assert (runs, call.done, call.error) == (1, True, None)
    await tasks.close()


async def test_an_expected_error_is_an_outcome_and_no_failure_of_the_task() -> None:
    tasks = supervisor()

    async def work() -> None:
        raise Unavailable("no room")

    call = SharedCall(tasks, "load", work)
    with pytest.raises(Unavailable, match="no room"):
        await call.result()
    await tasks.close()
    assert tasks.restarts["load"] == 0


async def test_a_bug_is_told_to_the_callers_and_logged_and_counted_once(caplog: pytest.LogCaptureFixture) -> None:
    tasks, runs = supervisor(), 0

    async def work() -> None:
        nonlocal runs
        runs += 1
        raise ValueError("a bug")

    call = SharedCall(tasks, "load", work)
    with pytest.raises(ValueError, match="a bug"):
        await call.result()
    async with asyncio.timeout(5):
        while tasks.running:  # noqa: ASYNC110 - it is restarted, and then has nothing to do
            await asyncio.sleep(0.001)
    assert (runs, tasks.restarts["load"]) == (1, 1)
    assert any(record.exc_info for record in caplog.records)


@pytest.mark.parametrize("begun", [True, False])
async def test_stopping_it_ends_the_wait(begun: bool) -> None:
    tasks = supervisor()

    async def work() -> None:
        await asyncio.Event().wait()

    call = SharedCall(tasks, "load", work)
    waiting = asyncio.create_task(call.result())
    if begun:
        await asyncio.sleep(0)
    await (call.stop() if begun else tasks.close())
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert call.cancelled
    assert call.error is None
