"""Publishes a worker's state through grpc.health.v1 and the log."""

import logging
from collections.abc import Callable

from infermesh_runtime.background.tasks import BackgroundTask, TaskSupervisor
from infermesh_runtime.rpc.server import Server
from infermesh_worker.engine_client.engine_status import ServingState
from infermesh_worker.engine_client.watched import DerivedValue
from infermesh_worker.hosting.worker_status import WorkerStatus

_INTERVAL_S = 0.05
"""Shortest time between two checks, which cost a busy worker CPU time."""

_log = logging.getLogger(__name__)


class Readiness:
    """Follows the worker's status: reports SERVING while it is READY, and logs each change of state."""

    def __init__(
        self,
        status: DerivedValue[WorkerStatus],
        server: Server,
        address: Callable[[], str],
        tasks: TaskSupervisor | None = None,
    ) -> None:
        """`address` returns where the server listens."""
        self._status = status
        self._server = server
        self._address = address
        self._tasks = tasks or TaskSupervisor()
        self._task: BackgroundTask | None = None

    async def start(self) -> None:
        self._task = self._tasks.start("readiness", self._follow, essential=True)

    async def stop(self) -> None:
        if self._task is not None:
            self._task.stop()
            await self._task.wait()

    async def _follow(self) -> None:
        state: ServingState | None = None
        async for status in self._status.changes(_INTERVAL_S):
            if status.state is state:
                continue
            state = status.state
            await self._server.set_serving(state is ServingState.READY)
            _log.info(state.value, extra={"listen": self._address(), "reason": status.message})
