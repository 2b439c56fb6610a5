"""Generates from all prompts of a job, and hands the events to a sink."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.access.visit import Visit
from infermesh_router.openai.job import Job
from infermesh_router.relay.dispatcher import Dispatcher
from infermesh_router.relay.streams.event import Event
from infermesh_router.relay.streams.tail import Tail
from infermesh_router.requests.telling import Telling


class Sink(Protocol):
    """Where events go. `base` is the index of the prompt's first choice among the choices of all prompts."""

    async def begin(self, base: int, started: pb.Started) -> None:
        """The prompt's stream begins."""

    async def take_delta(self, base: int, delta: pb.Delta) -> None:
        """Takes new output."""

    async def take_finished(self, base: int, finished: pb.Finished) -> None:
        """Takes the end of a choice."""


async def run_generations(
    dispatcher: Dispatcher,
    job: Job,
    sink: Sink,
    *,
    visit: Visit,
    timeout_s: float | None,
    since_s: float,
    telling: Telling | None = None,
    ignored: Sequence[str] = (),
    tail: Tail | None = None,
) -> None:
    """Runs all prompts at once. Raises the first InfermeshError, after cancelling the others.

    `ignored` are the fields of the body that have no effect. `telling` tells the client what the first prompt waits
    for: the others wait for the same. `tail` is told when the rest of the answer has come, for a job with one prompt.
    """
    calls = [visit.admit(call) for call in job.calls]

    async def run_one(index: int) -> None:
        base = index * job.choices_per_prompt
        told = telling if index == 0 else None
        async with dispatcher.generate(
            calls[index],
            timeout_s,
            since_s=since_s,
            telling=told,
            ignored=ignored,
            tail=tail if len(calls) == 1 else None,
        ) as events:
            await _hand_over(visit.watch(events), base, sink)

    if len(calls) == 1:
        await run_one(0)
        return
    try:
        async with asyncio.TaskGroup() as group:
            for index in range(len(calls)):
                group.create_task(run_one(index))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _hand_over(events: AsyncIterator[Event], base: int, sink: Sink) -> None:
    async for _, content in events:
        if content.HasField("delta"):
            await sink.take_delta(base, content.delta)
        elif content.HasField("finished"):
            await sink.take_finished(base, content.finished)
        else:
            await sink.begin(base, content.started)
