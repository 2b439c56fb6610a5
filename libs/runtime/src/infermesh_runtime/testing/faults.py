"""Makes background tasks fail on demand: each raises at the point where it waits."""

import asyncio
from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any

from infermesh_runtime.background.tasks import Work


class InjectedError(Exception):
    """Raised inside a background task by a test."""


class FaultyRun:
    """Runs the work of background tasks, as `run` of a TaskSupervisor; `fail` makes a running one raise."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.Task[Any]] = {}
        self._faults: dict[str, InjectedError] = {}

    def runs(self, name: str) -> bool:
        """Whether the task's work runs now, rather than being paused after a failure."""
        return name in self._running

    async def __call__(self, name: str, work: Work) -> None:
        """Runs the work once."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self._running[name] = task
        try:
            await self._drive(name, work())
        finally:
            self._running.pop(name, None)
            self._faults.pop(name, None)

    def fail(self, name: str) -> None:
        """Makes the task raise InjectedError where it waits. Raises KeyError if it does not run."""
        task = self._running[name]
        self._faults[name] = InjectedError(name)
        task.cancel()  # wakes it, whatever it waits for

    @coroutine
    def _drive(self, name: str, work: Coroutine[Any, Any, None]) -> Generator[Any, Any, None]:
        """Awaits the work; turns the cancellation by `fail` into its fault."""
        error: BaseException | None = None
        while True:
            try:
                waited = work.send(None) if error is None else work.throw(error)
            except StopIteration:
                return
            try:
                yield waited
                error = None
            except BaseException as thrown:
                error = thrown
                if isinstance(thrown, asyncio.CancelledError) and name in self._faults:
                    self._running[name].uncancel()
                    error = self._faults.pop(name)
