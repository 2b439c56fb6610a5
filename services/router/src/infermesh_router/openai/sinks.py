"""Owns what becomes of a generation's events: one body, or server-sent events as they come. Knows no endpoint."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import orjson
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.convert import Job
from infermesh_router.openai.shape import (
    DONE,
    Answer,
    ChunkEncoder,
    Shape,
    error_event,
    failovers_member,
    finish_reason_name,
    usage_object,
)

EVENTS = "text/event-stream; charset=utf-8"

Begin = Callable[[pb.Started], Awaitable[None]]
"""Sends the response's headers."""


class Writer(Protocol):
    """The RPC, as far as a stream needs it."""

    async def write(self, message: HttpBody) -> None:
        """Sends a message. Only one may be on its way at a time."""


class WholeSink:
    """Gathers the events; `body` is the answer."""

    def __init__(self, job: Job, shape: Shape, begin: Begin) -> None:
        self._job = job
        self._shape = shape
        self._begin = begin
        self._begun = False
        self._answers = [Answer() for _ in range(len(job.prompts) * job.choices_per_prompt)]
        self._usage = pb.Usage()
        self._failovers = _Failovers()

    async def begin(self, base: int, started: pb.Started) -> None:  # noqa: ARG002 - a sink's shape
        """Tells who serves, once."""
        if not self._begun:
            self._begun = True
            await self._begin(started)

    async def take_delta(self, base: int, delta: pb.Delta) -> None:
        """New output."""
        answer = self._answers[base + delta.choice]
        answer.texts.append(delta.text)
        answer.logprobs.extend(delta.logprobs)

    async def take_finished(self, base: int, finished: pb.Finished) -> None:
        """The end of a choice."""
        self._answers[base + finished.choice].finish_reason = finish_reason_name(finished.finish_reason)
        add_usage(self._usage, finished.usage)
        self._failovers.note(base, finished)

    def body(self) -> bytes:
        """The answer as JSON."""
        answer = self._shape.whole(self._job, self._answers) | {"usage": usage_object(self._usage)}
        return orjson.dumps(answer | failovers_member(self._failovers.all))


class SseSink:
    """Writes each event as it comes. A choice's end waits for the next event, so that an answer ends in one write."""

    def __init__(self, job: Job, shape: Shape, begin: Begin, writer: Writer) -> None:
        self._job = job
        self._encoder = ChunkEncoder(job, shape)
        self._begin = begin
        self._writer = writer if len(job.prompts) == 1 else _InTurn(writer)
        self._beginning = asyncio.Lock()
        self._usage = pb.Usage()
        self._failovers = _Failovers()
        self._content_type = EVENTS
        self._pending = b""
        self.begun = False
        """Whether something was sent, so that an error can no longer be a status."""

    async def begin(self, base: int, started: pb.Started) -> None:
        """Tells who serves, once, and opens the prompt's choices."""
        async with self._beginning:
            if not self.begun:
                await self._begin(started)
                self.begun = True
        choices = range(base, base + self._job.choices_per_prompt)
        self._pending += b"".join(self._encoder.begin(choice) for choice in choices)

    async def take_delta(self, base: int, delta: pb.Delta) -> None:
        """New output."""
        data = self._encoder.delta(base + delta.choice, delta)
        if self._pending:
            data, self._pending = self._pending + data, b""
        if data:
            await self._writer.write(self._message(data))

    async def take_finished(self, base: int, finished: pb.Finished) -> None:
        """The end of a choice."""
        self._pending += self._encoder.finish(base + finished.choice, finished)
        add_usage(self._usage, finished.usage)
        self._failovers.note(base, finished)

    async def end(self) -> None:
        """The end of the answer."""
        if self._job.include_usage:
            self._pending += self._encoder.usage(self._usage, self._failovers.all)
        await self._writer.write(self._message(self._pending + DONE))

    async def fail(self, error: dict[str, Any]) -> None:
        """The end of an answer that failed after it had begun."""
        await self._writer.write(self._message(self._pending + error_event(error) + DONE))

    def _message(self, data: bytes) -> HttpBody:
        """The next message; the first one says the content type."""
        message = HttpBody(content_type=self._content_type, data=data)
        self._content_type = ""
        return message


class _InTurn:
    """A writer for several tasks: each waits until the others' message is sent."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._turn = asyncio.Lock()

    async def write(self, message: HttpBody) -> None:
        """Sends a message."""
        async with self._turn:
            await self._writer.write(message)


class _Failovers:
    """The moves of a job's streams. Each choice tells those of its stream until it ended: the longest list has all."""

    def __init__(self) -> None:
        self._by_stream: dict[int, Sequence[pb.Failover]] = {}

    @property
    def all(self) -> list[pb.Failover]:
        """Each once, in the order of the prompts."""
        return [move for base in sorted(self._by_stream) for move in self._by_stream[base]]

    def note(self, base: int, finished: pb.Finished) -> None:
        """A choice of the stream ended."""
        if len(finished.failovers) > len(self._by_stream.get(base, ())):
            self._by_stream[base] = list(finished.failovers)


def add_usage(total: pb.Usage, usage: pb.Usage) -> None:
    """Adds `usage` to `total`."""
    total.prompt_tokens += usage.prompt_tokens
    total.completion_tokens += usage.completion_tokens
    total.cached_tokens += usage.cached_tokens
