"""Timer that calls back when a model has been idle for its keep-alive time."""

import asyncio
from collections.abc import Callable

from infermesh_runtime.background.tasks import BackgroundTask, TaskSupervisor
from infermesh_worker.hosting.hosted_model import HostedModel


class KeepAlive:
    """Calls `expire` once a model is overdue. Used from one event loop."""

    def __init__(
        self,
        hosted: HostedModel,
        expire: Callable[[], None],
        *,
        name: str = "",
        tasks: TaskSupervisor | None = None,
    ) -> None:
        """`name` tells its background task from those of other models."""
        self._hosted = hosted
        self._expire = expire
        self._name = name
        self._tasks = tasks or TaskSupervisor()
        self._waiting: BackgroundTask | None = None

    def arm(self) -> None:
        """Begins to wait, for the model's current retention and idle time."""
        self.stop()
        retention = self._hosted.retention
        if not retention.pinned and retention.keep_alive_s > 0:
            self._waiting = self._tasks.start("keep-alive", self._wait, about=self._name)

    def stop(self) -> None:
        if self._waiting is not None:
            self._waiting.stop()
            self._waiting = None

    async def _wait(self) -> None:
        while not self._hosted.overdue:  # noqa: ASYNC110 - time passes without an event
            # A model in use has idle time 0: it is checked again after a whole keep-alive time.
            await asyncio.sleep(self._hosted.retention.keep_alive_s - self._hosted.idle_s)
        self._expire()
