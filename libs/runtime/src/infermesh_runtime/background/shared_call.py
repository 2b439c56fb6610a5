"""Runs work that has a result under the supervisor of background tasks, for several callers who wait for it."""

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, Generic, TypeVar

from infermesh_runtime.background.tasks import TaskSupervisor, is_cancelled
from infermesh_runtime.errors import Cancelled, InfermeshError

T = TypeVar("T")


class SharedCall(Generic[T]):
    """Work that goes on when its callers leave. It runs once: an InfermeshError or OSError is its outcome.

    Any other exception is told to the callers, and logged and counted by the supervisor. Used from one event loop.
    """

    def __init__(
        self, tasks: TaskSupervisor, kind: str, call: Callable[[], Coroutine[Any, Any, T]], *, about: str = ""
    ) -> None:
        """`kind` and `about` name the background task, as in `TaskSupervisor.start`."""
        self._call = call
        self._outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._outcome.add_done_callback(_retrieve)
        self._task = tasks.start(kind, self._work, about=about)
        self._task.on_done(self._outcome.cancel)  # a task that is stopped before it has begun sets no outcome

    @property
    def done(self) -> bool:
        """Whether there is an outcome."""
        return self._outcome.done()

    @property
    def cancelled(self) -> bool:
        """Whether it was stopped before it had an outcome."""
        return self._outcome.cancelled()

    @property
    def error(self) -> BaseException | None:
        """What it raised; None if it returned, was stopped, or still runs."""
        return self._outcome.exception() if self.done and not self.cancelled else None

    def on_done(self, callback: Callable[[], object]) -> None:
        """Calls `callback` soon after there is an outcome."""
        self._outcome.add_done_callback(lambda _: callback())

    async def result(self) -> T:
        """Waits for the result. Raises what the call raised, and CancelledError if it was stopped (`cancelled`)."""
        return await asyncio.shield(self._outcome)

    async def settled(self, timeout_s: float | None = None) -> bool:
        """Waits until there is an outcome, whatever it is, or for `timeout_s`; returns whether there is one."""
        await asyncio.wait((self._outcome,), timeout=timeout_s)
        return self.done

    async def stop(self) -> None:
        """Cancels the work and waits until it has ended."""
        self._task.stop()
        await self._task.wait()
        self._outcome.cancel()

    async def _work(self) -> None:
        if self._outcome.done():  # restarted by the supervisor: the callers have been told
            return
        try:
            result = await self._call()
        except (InfermeshError, OSError) as error:
            self._settle(error)
        except asyncio.CancelledError:
            if not is_cancelled():  # something that it awaited was cancelled
                self._settle(Cancelled("The work was cut off."))
            raise
        except Exception as error:
            self._settle(error)
            raise
        else:
            if not self._outcome.done():
                self._outcome.set_result(result)

    def _settle(self, error: Exception) -> None:
        if not self._outcome.done():
            self._outcome.set_exception(error)


def _retrieve(outcome: "asyncio.Future[Any]") -> None:
    """Marks the outcome as seen: nobody may be waiting for it."""
    with suppress(asyncio.CancelledError):
        outcome.exception()
