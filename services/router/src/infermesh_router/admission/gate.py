"""Counts the requests inside the router, and refuses new ones while it drains."""

from collections.abc import Iterator
from contextlib import contextmanager

from infermesh_router.fleet.changes import Changes
from infermesh_runtime.errors import FailedPrecondition, Unavailable

_RETRY_AFTER_S = 1.0


class Gate:
    """The router's entrance. `drain` and `resume` come in pairs; each notifies `changes`."""

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
        """Requests that have entered and not ended."""
        return self._running

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Counts a request while the block runs. Raises Unavailable (ROUTER_DRAINING) while the router drains."""
        if self._draining:
            raise Unavailable(
                "The router is draining and takes no new requests. Retry; another router may answer.",
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
        """Refuses new requests from now on; returns once none runs. Cancelling the wait does not end the drain.

        Raises FailedPrecondition (RESUMED) if `resume` ends it first.
        """
        self._draining = True
        self._changes.notify()
        while self._running and self._draining:
            await self._drained.wait_beyond(self._drained.version)
        if not self._draining:
            raise FailedPrecondition("The drain ended early: the router was told to resume.", reason="RESUMED")

    def resume(self) -> None:
        """Takes new requests again."""
        self._draining = False
        self._drained.notify()
        self._changes.notify()
