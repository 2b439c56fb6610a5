"""Timer that calls back when a model has been idle for its keep-alive time."""

import asyncio
from collections.abc import Callable

from infermesh_worker.hosting.hosted_model import HostedModel


class KeepAlive:
    """Calls `expire` once a model is overdue. Used from one event loop."""

    def __init__(self, hosted: HostedModel, expire: Callable[[], None]) -> None:
        self._hosted = hosted
        self._expire = expire
        self._timer: asyncio.TimerHandle | None = None

    def arm(self) -> None:
        """Sets the timer for the model's current retention and idle time."""
        self.stop()
        retention = self._hosted.retention
        if retention.pinned or retention.keep_alive_s <= 0:
            return
        # A model in use has idle time 0: it is checked again after a whole keep-alive time.
        left_s = retention.keep_alive_s - self._hosted.idle_s
        if self._hosted.overdue:
            self._expire()
        else:
            self._timer = asyncio.get_running_loop().call_later(left_s, self.arm)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
