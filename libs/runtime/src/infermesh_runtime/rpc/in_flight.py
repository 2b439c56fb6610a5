"""Owns the count of running RPCs, so that a stop can wait for those that end. Knows no gRPC."""

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager


class InFlight:
    """Running RPCs; those of `endless` methods, which last until their client leaves, are not counted."""

    def __init__(self, endless: Collection[str] = ()) -> None:
        self._endless = frozenset(endless)
        self._count = 0
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def count(self) -> int:
        return self._count

    @contextmanager
    def entered(self, method: str) -> Iterator[None]:
        """Counts an RPC of `method` ("/package.Service/Method") while the block runs."""
        if method in self._endless:
            yield
            return
        self._count += 1
        self._idle.clear()
        try:
            yield
        finally:
            self._count -= 1
            if not self._count:
                self._idle.set()

    async def wait_idle(self) -> None:
        """Returns when nothing runs; at once if so now."""
        await self._idle.wait()
