"""Generates from all prompts of a job, and hands the events to a sink."""

import asyncio
from typing import Protocol

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.job import Job
from infermesh_router.relay.dispatcher import Dispatcher


class Sink(Protocol):
    """Where events go. `base` is the index of the prompt's first choice among the choices of all prompts."""

    async def begin(self, base: int, started: pb.Started) -> None:
        """The prompt's stream begins."""

    async def take_delta(self, base: int, delta: pb.Delta) -> None:
        """Takes new output."""

    async def take_finished(self, base: int, finished: pb.Finished) -> None:
        """Takes the end of a choice."""


async def run_generations(
    dispatcher: Dispatcher, job: Job, sink: Sink, *, timeout_s: float | None, since_s: float
) -> None:
    """Runs all prompts at once. Raises the first InfermeshError, after cancelling the others."""
    if len(job.calls) == 1:
        await _run_one(dispatcher, job, 0, sink, timeout_s=timeout_s, since_s=since_s)
        return
    try:
        async with asyncio.TaskGroup() as group:
            for index in range(len(job.calls)):
                group.create_task(_run_one(dispatcher, job, index, sink, timeout_s=timeout_s, since_s=since_s))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _run_one(
    dispatcher: Dispatcher, job: Job, index: int, sink: Sink, *, timeout_s: float | None, since_s: float
) -> None:
    base = index * job.choices_per_prompt
    async with dispatcher.generate(job.calls[index], timeout_s, since_s=since_s) as events:
        async for _, content in events:
            if content.HasField("delta"):
                await sink.take_delta(base, content.delta)
            elif content.HasField("finished"):
                await sink.take_finished(base, content.finished)
            else:
                await sink.begin(base, content.started)
