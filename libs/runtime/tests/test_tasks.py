"""Background tasks: what fails is logged, counted and restarted, and told as a problem when it goes on failing."""

import asyncio
import logging

import pytest
from prometheus_client import CollectorRegistry

from infermesh_runtime.background.task_metrics import TaskCollector
from infermesh_runtime.background.tasks import Backoff, TaskSupervisor
from infermesh_runtime.logs import REQUEST_ID
from infermesh_runtime.testing.faults import FaultyRun, InjectedError


class Pauses:
    """A sleep that records its lengths and does not sleep."""

    def __init__(self) -> None:
        self.lengths_s: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.lengths_s.append(seconds)
        await asyncio.sleep(0)


class Failing:
    """Work that fails a number of times, and then goes on for ever."""

    def __init__(self, times: int, error: BaseException | None = None) -> None:
        self.left = times
        self.error = error or ValueError("no such thing")
        self.steady = asyncio.Event()

    async def __call__(self) -> None:
        if self.left:
            self.left -= 1
            raise self.error
        self.steady.set()
        await asyncio.Event().wait()


def supervisor(pauses: Pauses, *, steady_s: float = 60.0) -> TaskSupervisor:
    backoff = Backoff(first_s=1.0, longest_s=5.0, steady_s=steady_s)
    return TaskSupervisor(backoff=backoff, sleep=pauses, jitter=lambda: 1.0)


async def test_a_failed_task_is_logged_counted_and_restarted_with_growing_pauses(
    caplog: pytest.LogCaptureFixture,
) -> None:
    pauses, work = Pauses(), Failing(5)
    tasks = supervisor(pauses)
    tasks.start("resolver", work, about="names")
    await work.steady.wait()
    assert pauses.lengths_s == [1, 2, 4, 5, 5]
    assert tasks.restarts["resolver"] == 5
    records = [record for record in caplog.records if "resolver names" in record.getMessage()]
    assert len(records) == 5
    assert all(record.levelno == logging.ERROR and record.exc_info for record in records)
    await tasks.close()
    assert tasks.running == []


async def test_restarts_are_a_metric_by_kind() -> None:
    tasks, work = supervisor(Pauses()), Failing(2)
    registry = CollectorRegistry()
    registry.register(TaskCollector(tasks))
    for address in ("a:1", "b:2"):
        tasks.start("poller", work, about=address)
    tasks.start("catalog", Failing(0))
    await work.steady.wait()
    assert registry.get_sample_value("infermesh:task_restarts_total", {"task": "poller"}) == 2
    assert registry.get_sample_value("infermesh:task_restarts_total", {"task": "catalog"}) == 0
    await tasks.close()


async def test_failures_in_a_row_are_a_problem_until_the_task_is_steady() -> None:
    tasks, work, told = supervisor(Pauses(), steady_s=0.05), Failing(3), asyncio.Event()
    tasks.listen(told.set)
    tasks.start("waiting room", work, essential=True)
    await work.steady.wait()
    problem = "the background task 'waiting room' has failed 3 times in a row: ValueError: no such thing"
    assert (tasks.problem, tasks.disabled) == (problem, True)
    told.clear()
    await asyncio.wait_for(told.wait(), 5)
    assert (tasks.problem, tasks.disabled) == ("", False)
    await tasks.close()


async def test_only_an_essential_task_disables_the_process() -> None:
    tasks, work = supervisor(Pauses()), Failing(3)
    tasks.start("catalog", work)
    await work.steady.wait()
    assert tasks.problem
    assert not tasks.disabled
    await tasks.close()


async def test_a_stopped_task_is_not_restarted_and_its_problem_is_forgotten() -> None:
    tasks, work = supervisor(Pauses()), Failing(3)
    task = tasks.start("poller", work)
    await work.steady.wait()
    task.stop()
    await task.wait()
    assert (tasks.problem, tasks.running, tasks.restarts["poller"]) == ("", [], 3)


async def test_a_task_that_returns_is_done() -> None:
    async def find() -> None: ...

    tasks = supervisor(Pauses())
    task = tasks.start("device", find)
    await task.wait()
    assert task.done
    assert tasks.restarts["device"] == 0


async def test_the_cancellation_of_something_awaited_is_a_failure() -> None:
    tasks, work = supervisor(Pauses()), Failing(1, asyncio.CancelledError())
    tasks.start("poller", work)
    await asyncio.wait_for(work.steady.wait(), 5)
    assert tasks.restarts["poller"] == 1
    await tasks.close()


async def test_a_task_does_not_log_under_the_request_that_started_it() -> None:
    seen: list[str] = []

    async def look() -> None:
        seen.append(REQUEST_ID.get())

    REQUEST_ID.set("request")
    tasks = supervisor(Pauses())
    await tasks.start("waiting room", look).wait()
    assert seen == [""]


async def test_an_injected_fault_is_raised_where_the_task_waits() -> None:
    caught: list[BaseException] = []
    runs, second_run = 0, asyncio.Event()

    async def work() -> None:
        nonlocal runs
        runs += 1
        if runs == 2:
            second_run.set()
        try:
            await asyncio.sleep(3600)
        except BaseException as error:
            caught.append(error)
            raise

    faults = FaultyRun()
    tasks = TaskSupervisor(run=faults, sleep=Pauses(), jitter=lambda: 1.0)
    task = tasks.start("sleeper", work)
    await asyncio.sleep(0)
    faults.fail("sleeper")
    await asyncio.wait_for(second_run.wait(), 5)
    task.stop()
    await task.wait()
    assert [type(error) for error in caught] == [InjectedError, asyncio.CancelledError]


async def test_a_timer_that_raises_is_logged_counted_and_called_again(caplog: pytest.LogCaptureFixture) -> None:
    pauses, called = Pauses(), asyncio.Event()
    tasks, failures = supervisor(pauses), [ValueError("not yet"), ValueError("not yet")]

    def call() -> None:
        if failures:
            raise failures.pop()
        called.set()

    tasks.call_later("endpoint timer", 0.01, call, about="a:1")
    await asyncio.wait_for(called.wait(), 5)
    assert pauses.lengths_s == [1, 2]
    assert tasks.restarts["endpoint timer"] == 2
    assert sum("endpoint timer a:1" in record.getMessage() for record in caplog.records) == 2
    await tasks.close()


async def test_close_stops_timers() -> None:
    tasks, called = TaskSupervisor(), asyncio.Event()
    tasks.call_later("endpoint timer", 0.01, called.set)
    await tasks.close()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(called.wait(), 0.05)


async def test_a_task_that_fails_while_it_is_stopped_is_not_restarted(caplog: pytest.LogCaptureFixture) -> None:
    runs, begun = [0], asyncio.Event()

    async def work() -> None:
        runs[0] += 1
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise ValueError("cannot tidy up")

    tasks = supervisor(Pauses())
    tasks.start("poller", work)
    await begun.wait()
    await asyncio.wait_for(tasks.close(), 5)
    assert (runs, tasks.running) == ([1], [])
    assert any("poller" in record.getMessage() and record.exc_info for record in caplog.records)


async def test_a_listener_that_raises_ends_no_task(caplog: pytest.LogCaptureFixture) -> None:
    def complain() -> None:
        raise ValueError("no more of this")

    work, told = Failing(2), [0]
    tasks = supervisor(Pauses())
    tasks.listen(complain)
    tasks.listen(lambda: told.__setitem__(0, told[0] + 1))
    tasks.start("resolver", work)
    await asyncio.wait_for(work.steady.wait(), 5)
    assert told == [2]
    assert "a listener failed" in caplog.text
    await tasks.close()


async def test_close_stops_what_ending_tasks_start() -> None:
    begun = asyncio.Event()
    tasks = supervisor(Pauses())

    async def work() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            tasks.start("farewell", forever)

    async def forever() -> None:
        await asyncio.Event().wait()

    tasks.start("poller", work)
    await begun.wait()
    await asyncio.wait_for(tasks.close(), 5)
    assert tasks.running == []
