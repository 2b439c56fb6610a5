"""Owns running a job's generations and handing their events to a sink. Knows no JSON and no server-sent events."""

import asyncio
from typing import Protocol

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.convert import Job
from infermesh_router.relay.dispatcher import Dispatcher, Generation
from infermesh_router.requests.call import from_generate


class Sink(Protocol):
    """Where events go. `base` is the index of the prompt's first choice among the choices of all prompts."""

    async def begin(self, base: int, started: pb.Started) -> None:
        """A prompt's generation begins."""

    async def take_delta(self, base: int, delta: pb.Delta) -> None:
        """New output."""

    async def take_finished(self, base: int, finished: pb.Finished) -> None:
        """The end of a choice."""


async def run_generations(
    dispatcher: Dispatcher, job: Job, sink: Sink, *, timeout_s: float | None, since_s: float
) -> None:
    """Runs all prompts of the job at once. Raises the first InfermeshError, after cancelling the others."""
    if len(job.prompts) == 1:
        await _run_one(dispatcher, job, 0, sink, timeout_s=timeout_s, since_s=since_s)
        return
    try:
        async with asyncio.TaskGroup() as group:
            for index in range(len(job.prompts)):
                group.create_task(_run_one(dispatcher, job, index, sink, timeout_s=timeout_s, since_s=since_s))
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from None


async def _run_one(
    dispatcher: Dispatcher, job: Job, index: int, sink: Sink, *, timeout_s: float | None, since_s: float
) -> None:
    base = index * job.choices_per_prompt
    call = from_generate(job.prompts[index])
    async with dispatcher.generate(call, timeout_s, since_s=since_s) as generation:
        await sink.begin(base, generation.started.started)
        await _hand_over(generation, sink, base)


async def _hand_over(generation: Generation, sink: Sink, base: int) -> None:
    """Gives the sink every event."""
    parse = pb.GenerateResponse.FromString
    event = parse(generation.first)
    rest = generation.rest
    while True:
        if event.HasField("delta"):
            await sink.take_delta(base, event.delta)
        elif event.HasField("finished"):
            await sink.take_finished(base, event.finished)
        try:
            event = parse(await anext(rest))
        except StopAsyncIteration:
            return
