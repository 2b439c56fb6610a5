"""Owns whether the router takes new requests, and how many run. Knows no endpoint and no queue."""

from collections.abc import Iterator
from contextlib import contextmanager

from infermesh_router.fleet.changes import Changes
from infermesh_runtime.errors import FailedPrecondition, Unavailable

_RETRY_AFTER_S = 1.0


class Gate:
    """The router's door. `drain` and `resume` come in pairs; each tells `changes`."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes
        self._drained = Changes()
        self._running = 0
        self._draining = False

    @property
    def draining(self) -> bool:
        """Whether new requests are refused."""
        return self._draining

    @property
    def running(self) -> int:
        """Requests that came in and have not ended."""
        return self._running

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Counts a request while the block runs. Raises Unavailable (ROUTER_DRAINING) when none is taken."""
        if self._draining:
            raise Unavailable(
                "The router is being drained; another one may answer.",
                reason="ROUTER_DRAINING",
                retry_after_s=_RETRY_AFTER_S,
            )
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1
            if self._draining:
                self._drained.notify()

    async def drain(self) -> None:
        """Refuses new requests from now on; returns when nothing runs. Cancelling the wait leaves it closed.

        Raises FailedPrecondition when `resume` ends it before.
        """
        self._draining = True
        self._changes.notify()
        while self._running and self._draining:
            await self._drained.wait_beyond(self._drained.version)
        if not self._draining:
            raise FailedPrecondition("The router was told to take requests again.", reason="RESUMED")

    def resume(self) -> None:
        """Takes requests again."""
        self._draining = False
        self._drained.notify()
        self._changes.notify()
