"""Keeps background tasks running: logs and counts every failure, restarts the task, and stops all tasks at the end.

Not a task group of asyncio or anyio, where one failure cancels all other tasks; aiomisc restarts no tasks at all.
"""

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from contextvars import Context
from dataclasses import dataclass
from typing import Any

_log = logging.getLogger(__name__)

Work = Callable[[], Coroutine[Any, Any, None]]
"""Begins a task's work anew. The task is done when the work returns, and restarted when it raises."""
Run = Callable[[str, Work], Awaitable[None]]
"""Runs a task's work once; gets the task's name. Tests replace it by one that fails on demand."""


async def run_once(_name: str, work: Work) -> None:
    """Runs the work and nothing else."""
    await work()


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """When a failed task is restarted, and when it counts as broken. Pure."""

    first_s: float = 0.05
    """Pause after the first failure, in seconds; doubles with each failure in a row."""
    longest_s: float = 10.0
    steady_s: float = 10.0
    """Once a task has run this long, its earlier failures are forgotten."""
    broken_after: int = 3
    """Failures in a row after which the process' health tells of the task."""

    def pause_s(self, failures: int) -> float:
        """Time between the last of so many failures in a row and the restart, before jitter."""
        return min(self.first_s * 2.0 ** min(failures - 1, 60), self.longest_s)


class BackgroundTask:
    """A task under a supervisor."""

    def __init__(self, kind: str, name: str, *, essential: bool) -> None:
        self.kind = kind
        self.name = name
        self.essential = essential
        self.failures = 0
        """Failures in a row."""
        self.error = ""
        """What the last one was."""
        self._task: asyncio.Task[None] | None = None

    @property
    def done(self) -> bool:
        """Whether its work has returned, or it was stopped."""
        return self._task is None or self._task.done()

    def stop(self) -> None:
        """Cancels it. It is not restarted."""
        if self._task is not None:
            self._task.cancel()

    async def wait(self, timeout_s: float | None = None) -> bool:
        """Waits until it is done, or for `timeout_s`; returns whether it is done."""
        if self._task is not None:
            await asyncio.wait((self._task,), timeout=timeout_s)
        return self.done

    def on_done(self, callback: Callable[[], object]) -> None:
        """Calls `callback` soon after it is done."""
        if self._task is not None:
            self._task.add_done_callback(lambda _: callback())

    def _attach(self, task: "asyncio.Task[None]") -> None:
        self._task = task


class TaskSupervisor:
    """The background tasks of one process. Used from one event loop."""

    def __init__(
        self,
        *,
        backoff: Backoff | None = None,
        run: Run = run_once,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = lambda: random.uniform(0.5, 1.0),  # noqa: S311 - not a secret
    ) -> None:
        """`jitter` returns the factor of each pause."""
        self.restarts: Counter[str] = Counter()
        """Failures so far, by kind of task; 0 for a kind that never failed."""
        self._backoff = backoff or Backoff()
        self._run = run
        self._sleep = sleep
        self._jitter = jitter
        self._tasks: set[BackgroundTask] = set()
        self._listeners: list[Callable[[], None]] = []
        self._timers: set[asyncio.TimerHandle] = set()

    @property
    def running(self) -> list[BackgroundTask]:
        """The tasks that are not done, by name."""
        return sorted((task for task in self._tasks if not task.done), key=lambda task: task.name)

    @property
    def problem(self) -> str:
        """Which tasks fail again and again, and why, in words for the process' health; "" if none does."""
        return "; ".join(
            f"the background task '{task.name}' has failed {task.failures} times in a row: {task.error}"
            for task in self._broken()
        )

    @property
    def disabled(self) -> bool:
        """Whether one of them is essential, so that the process cannot do its work."""
        return any(task.essential for task in self._broken())

    def listen(self, listener: Callable[[], None]) -> None:
        """Calls `listener` whenever `problem` has changed."""
        self._listeners.append(listener)

    def start(self, kind: str, work: Work, *, about: str = "", essential: bool = False) -> BackgroundTask:
        """Starts a task that is restarted, after a pause, whenever its work raises.

        `kind` is its label in the metrics and `about` what tells it from others of its kind, as an address does.
        `essential` means that the process cannot do its work while the task fails.
        """
        task = BackgroundTask(kind, f"{kind} {about}".strip(), essential=essential)
        self.restarts[kind] += 0
        self._tasks.add(task)
        # A context of its own: a task that a request starts outlives it, and its log lines are not the request's.
        running = asyncio.create_task(self._supervise(task, work), name=task.name, context=Context())
        task._attach(running)
        running.add_done_callback(lambda _: self._forget(task))
        return task

    def call_later(self, kind: str, delay_s: float, callback: Callable[[], None], *, about: str = "") -> None:
        """Calls `callback` after a delay, as the work of a task: if it raises, it is called again after a pause."""

        async def work() -> None:
            callback()

        def fire() -> None:
            self._timers.discard(timer)
            self.start(kind, work, about=about)

        timer = asyncio.get_running_loop().call_later(delay_s, fire)
        self._timers.add(timer)

    async def close(self) -> None:
        """Stops all tasks and timers and waits until the tasks are done."""
        for timer in self._timers:
            timer.cancel()
        self._timers.clear()
        while tasks := [task for task in self._tasks if not task.done]:  # one that ends may start another
            for task in tasks:
                task.stop()
            for task in tasks:
                await task.wait()

    async def _supervise(self, task: BackgroundTask, work: Work) -> None:
        while not await self._succeeds(task, work):
            if is_cancelled():  # it was stopped, and failed on its way out
                return
            await self._sleep(self._backoff.pause_s(task.failures) * self._jitter())

    async def _succeeds(self, task: BackgroundTask, work: Work) -> bool:
        """Runs the work once; returns whether it returned rather than raised."""
        steady = asyncio.get_running_loop().call_later(self._backoff.steady_s, self._forgive, task)
        try:
            await self._run(task.name, work)
        except asyncio.CancelledError as error:
            if is_cancelled():
                raise
            self._note(task, error)  # something that it awaited was cancelled
        except Exception as error:
            self._note(task, error)
        else:
            return True
        finally:
            steady.cancel()
        return False

    def _note(self, task: BackgroundTask, error: BaseException) -> None:
        task.failures += 1
        task.error = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        self.restarts[task.kind] += 1
        _log.error("the background task '%s' failed and is restarted", task.name, exc_info=error)
        self._tell()

    def _forgive(self, task: BackgroundTask) -> None:
        if task.failures:
            task.failures = 0
            self._tell()

    def _broken(self) -> list[BackgroundTask]:
        return [task for task in self.running if task.failures >= self._backoff.broken_after]

    def _forget(self, task: BackgroundTask) -> None:
        self._tasks.discard(task)
        if task.failures:
            self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            try:
                listener()
            except Exception:
                _log.exception("a listener failed to take up that background tasks have failed or recovered")


def is_cancelled() -> bool:
    """Whether the current task itself is cancelled; otherwise a CancelledError came from something it awaited."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
