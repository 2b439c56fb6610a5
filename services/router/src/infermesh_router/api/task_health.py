"""Tells in the router's health when background tasks fail again and again."""

import asyncio
from collections.abc import Awaitable, Callable

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.admission.gate import Gate
from infermesh_router.fleet.changes import Changes
from infermesh_runtime.background.tasks import TaskSupervisor
from infermesh_runtime.rpc.server import ServerPart


def add_task_problems(report: pb.HealthReport, tasks: TaskSupervisor) -> None:
    """Adds the problems to the report's message. An essential task makes its state FAILED."""
    if tasks.problem:
        report.message = "; ".join(filter(None, (report.message, tasks.problem)))
    if tasks.disabled:
        report.state = pb.ENDPOINT_STATE_FAILED


SetServing = Callable[[bool], Awaitable[None]]


def serving_unless_disabled(set_serving: SetServing, tasks: TaskSupervisor) -> SetServing:
    """Like `set_serving`, except that a router that can do no work stays NOT_SERVING."""

    async def set_if_able(serving: bool) -> None:
        await set_serving(serving and not tasks.disabled)

    return set_if_able


def task_health_part(tasks: TaskSupervisor, gate: Gate, changes: Changes, *, set_serving: SetServing) -> ServerPart:
    """Tells those who watch the router's health of every change, and its probes when it can do no work."""
    changed = asyncio.Event()

    async def follow() -> None:
        while True:
            await changed.wait()
            changed.clear()
            changes.notify()
            await set_serving(not gate.draining)

    async def start() -> None:
        tasks.listen(changed.set)
        tasks.start("health", follow)

    return ServerPart(name="health of tasks", listening=start)
