"""Wakes tasks when something has changed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import TypeVar

T = TypeVar("T")


class Changes:
    """A count of changes that tasks can wait on. What changed, they look up themselves."""

    def __init__(self) -> None:
        self._version = 0
        self._waiters: set[asyncio.Future[None]] = set()

    @property
    def version(self) -> int:
        """Number of changes so far."""
        return self._version

    def notify(self) -> None:
        """Counts a change and wakes the waiting tasks."""
        self._version += 1
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def wait_beyond(self, version: int) -> None:
        """Returns once there has been a change after `version`."""
        while self._version <= version:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.add(waiter)
            try:
                await waiter
            finally:
                self._waiters.discard(waiter)

    async def follow(self, make: Callable[[], T], min_interval_s: float) -> AsyncIterator[T]:
        """Yields `make()` now and after changes, at most once every `min_interval_s`."""
        while True:
            version = self._version
            yield make()
            await asyncio.sleep(min_interval_s)
            await self.wait_beyond(version)
