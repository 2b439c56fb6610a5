"""Bounds the calls that a server has in progress; further ones are told when to retry."""

from collections.abc import Collection, Iterator
from contextlib import contextmanager

from infermesh_runtime.errors import ResourceExhausted

TOO_MANY_CALLS = "TOO_MANY_CALLS"
_RETRY_AFTER_S = 1.0


class CallLimit:
    """Counts the running calls of `methods` ("/package.Service/Method"); all other methods are free."""

    def __init__(self, most: int, methods: Collection[str]) -> None:
        self._most = most
        self._methods = frozenset(methods)
        self._running = 0

    @contextmanager
    def entered(self, method: str) -> Iterator[None]:
        """Counts a call of `method` while the block runs. Raises ResourceExhausted (TOO_MANY_CALLS)."""
        if method not in self._methods:
            yield
            return
        if self._running >= self._most:
            raise ResourceExhausted(
                f"{self._running} calls are in progress, and no more may be. Retry in {_RETRY_AFTER_S:.0f} s.",
                reason=TOO_MANY_CALLS,
                metadata={"calls": str(self._running)},
                retry_after_s=_RETRY_AFTER_S,
            )
        self._running += 1
        try:
            yield
        finally:
            self._running -= 1


NO_LIMIT = CallLimit(0, ())
