"""Owns how a worker's state reaches grpc.health.v1 and the log. Knows no requests."""

import asyncio
import logging
from collections.abc import Callable

from infermesh_runtime.rpc.server import Server
from infermesh_worker.engine_process.status import State
from infermesh_worker.engine_process.watched import Derived
from infermesh_worker.models.worker_status import WorkerStatus

_INTERVAL_S = 0.05
"""Looking more often would cost a busy worker something, and tell nobody more."""

_log = logging.getLogger(__name__)


class Readiness:
    """Follows the status while it runs: SERVING when READY, and one log line for each change of state."""

    def __init__(self, status: Derived[WorkerStatus], server: Server, address: Callable[[], str]) -> None:
        """`address`: where the server listens, once it does."""
        self._status = status
        self._server = server
        self._address = address
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._follow(), name="readiness")

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _follow(self) -> None:
        state: State | None = None
        async for status in self._status.changes(_INTERVAL_S):
            if status.state is state:
                continue
            state = status.state
            await self._server.set_serving(state is State.READY)
            _log.info(state.value, extra={"listen": self._address(), "reason": status.message})
