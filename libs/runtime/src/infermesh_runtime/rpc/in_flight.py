"""Knows the running RPCs, so that a stopping server can wait for them, and end those that take too long."""

import asyncio
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from infermesh_runtime.errors import InfermeshError
from infermesh_runtime.rpc.context import RpcContext


class InFlight:
    """The running RPCs. Those of `endless` methods, which run until their client leaves, do not count."""

    def __init__(self, endless: Collection[str] = ()) -> None:
        self._endless = frozenset(endless)
        self._uncounted: set[RpcContext] = set()
        self._running: set[RpcContext] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def count(self) -> int:
        return len(self._running)

    @contextmanager
    def entered(self, method: str, context: RpcContext) -> Iterator[None]:
        """Counts an RPC of `method` ("/package.Service/Method") while the block runs, in the task that handles it."""
        if method in self._endless:
            self._uncounted.add(context)
            try:
                yield
            finally:
                self._uncounted.discard(context)
            return
        context.task = asyncio.current_task()
        self._running.add(context)
        self._idle.clear()
        try:
            yield
        finally:
            self._running.discard(context)
            context.task = None  # a reference cycle
            if not self._running:
                self._idle.set()

    async def wait_idle(self) -> None:
        """Returns once no RPC is running."""
        await self._idle.wait()

    def end(self, error: InfermeshError) -> None:
        """Ends every running RPC with this error: its client is told, whatever it has got until now.

        Of the endless ones, this ends those that have an `on_end`.
        """
        for context in (*self._running, *self._uncounted):
            context.end(error)
