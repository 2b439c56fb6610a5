"""Tells in the router's health when background tasks fail again and again."""

import asyncio
from collections.abc import Awaitable, Callable

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.admission.gate import Gate
from infermesh_router.fleet.changes import Changes
from infermesh_runtime.rpc.server import ServerPart
from infermesh_runtime.tasks import TaskSupervisor


def add_task_problems(report: pb.HealthReport, tasks: TaskSupervisor) -> None:
    """Adds the problems to the report's message. An essential task makes its state FAILED."""
    if tasks.problem:
        report.message = "; ".join(filter(None, (report.message, tasks.problem)))
    if tasks.disabled:
        report.state = pb.ENDPOINT_STATE_FAILED


def task_health_part(
    tasks: TaskSupervisor, gate: Gate, changes: Changes, *, set_serving: Callable[[bool], Awaitable[None]]
) -> ServerPart:
    """Tells those who watch the router's health of every change, and its probes when it can do no work."""
    changed = asyncio.Event()

    async def follow() -> None:
        while True:
            await changed.wait()
            changed.clear()
            changes.notify()
            await set_serving(not (tasks.disabled or gate.draining))

    async def start() -> None:
        tasks.listen(changed.set)
        tasks.start("health", follow)

    return ServerPart(name="health of tasks", listening=start)
