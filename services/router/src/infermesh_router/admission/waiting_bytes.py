"""Bounds the memory that waiting calls hold, in all queues together."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from infermesh_router.admission.model_queue import QUEUE_FULL
from infermesh_runtime.errors import ResourceExhausted

COPIES = 4
"""A waiting call holds its body as it came, its parsed form, the message made of it, and the bytes to send on."""
_RETRY_AFTER_S = 1.0


class WaitingBytes:
    """The memory of the calls that wait now, and the most that it may be."""

    def __init__(self, most_bytes: Callable[[], int]) -> None:
        """`most_bytes` tells the most now: routers side by side share it."""
        self._most_bytes = most_bytes
        self._held_bytes = 0

    @property
    def held_bytes(self) -> int:
        """What waiting calls hold now."""
        return self._held_bytes

    @contextmanager
    def held(self, body_bytes: int, *, must: bool) -> Iterator[None]:
        """Counts a call with a body of this size as waiting while the block runs.

        Raises ResourceExhausted (QUEUE_FULL) if that is too much, unless the call `must` be let in.
        """
        size_bytes = COPIES * body_bytes
        most_bytes = self._most_bytes()
        if self._held_bytes + size_bytes > most_bytes and not must:
            raise ResourceExhausted(
                f"The router's queues hold as much as they may: {self._held_bytes / 1e6:.0f} of "
                f"{most_bytes / 1e6:.0f} MB, and this request needs {size_bytes / 1e6:.1f} MB. "
                f"Retry in {_RETRY_AFTER_S:.0f} s.",
                reason=QUEUE_FULL,
                metadata={"held_bytes": str(self._held_bytes), "max_bytes": str(most_bytes)},
                retry_after_s=_RETRY_AFTER_S,
            )
        self._held_bytes += size_bytes
        try:
            yield
        finally:
            self._held_bytes -= size_bytes
