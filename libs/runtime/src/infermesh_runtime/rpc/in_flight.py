"""Counts running RPCs, so that a stopping server can wait for them."""

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager


class InFlight:
    """The number of running RPCs. Those of `endless` methods, which run until their client leaves, do not count."""

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
        """Returns once no RPC is running."""
        await self._idle.wait()
