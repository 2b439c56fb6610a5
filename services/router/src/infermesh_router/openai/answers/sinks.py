"""Turns the events of a job into its answer: one body, or server-sent events as they come."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Protocol

import orjson
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.answers.chunks import (
    DONE,
    ChunkEncoder,
    error_event,
    failovers_member,
    finish_reason_name,
    usage_object,
)
from infermesh_router.openai.job import Job, WholeChoice

EVENTS = "text/event-stream; charset=utf-8"

SendHeaders = Callable[[pb.Started], Awaitable[None]]
"""Sends the response's headers, which say what `started` says."""


class Writer(Protocol):
    """What a stream needs of the RPC."""

    async def write(self, message: HttpBody) -> None:
        """Sends a message. Must not be called again before it returns."""


class WholeSink:
    """Gathers the events; `body` is then the answer."""

    def __init__(self, job: Job, send_headers: SendHeaders) -> None:
        self._job = job
        self._send_headers = send_headers
        self._begun = False
        self._choices = [WholeChoice() for _ in range(job.choices)]
        self._usage = pb.Usage()
        self._failovers = _Failovers()

    async def begin(self, base: int, started: pb.Started) -> None:  # noqa: ARG002 - a sink's shape
        """Sends the headers, once."""
        if not self._begun:
            self._begun = True
            await self._send_headers(started)

    async def take_delta(self, base: int, delta: pb.Delta) -> None:
        """Takes new output."""
        choice = self._choices[base + delta.choice]
        choice.texts.append(delta.text)
        choice.logprobs.extend(delta.logprobs)

    async def take_finished(self, base: int, finished: pb.Finished) -> None:
        """Takes the end of a choice."""
        self._choices[base + finished.choice].finish_reason = finish_reason_name(finished.finish_reason)
        add_usage(self._usage, finished.usage)
        self._failovers.note(base, finished)

    def body(self) -> bytes:
        """The answer as JSON."""
        answer = self._job.shape.whole(self._job, self._choices) | {"usage": usage_object(self._usage)}
        return orjson.dumps(answer | failovers_member(self._failovers.all))


class SseSink:
    """Writes each event as it comes. The end of a choice is held back, so that an answer ends in one write."""

    def __init__(self, job: Job, send_headers: SendHeaders, writer: Writer) -> None:
        self._job = job
        self._encoder = ChunkEncoder(job)
        self._send_headers = send_headers
        self._writer = writer if len(job.calls) == 1 else _InTurn(writer)
        self._beginning = asyncio.Lock()
        self._usage = pb.Usage()
        self._failovers = _Failovers()
        self._content_type = EVENTS
        self._pending = b""
        self.begun = False
        """Whether something was sent, so that an error can no longer be a status."""

    async def begin(self, base: int, started: pb.Started) -> None:
        """Sends the headers, once, and opens the prompt's choices."""
        async with self._beginning:
            if not self.begun:
                await self._send_headers(started)
                self.begun = True
        choices = range(base, base + self._job.choices_per_prompt)
        self._pending += b"".join(self._encoder.begin(choice) for choice in choices)

    async def take_delta(self, base: int, delta: pb.Delta) -> None:
        """Takes new output."""
        data = self._encoder.delta(base + delta.choice, delta)
        if self._pending:
            data, self._pending = self._pending + data, b""
        if data:
            await self._writer.write(self._message(data))

    async def take_finished(self, base: int, finished: pb.Finished) -> None:
        """Takes the end of a choice."""
        self._pending += self._encoder.finish(base + finished.choice, finished)
        add_usage(self._usage, finished.usage)
        self._failovers.note(base, finished)

    async def end(self) -> None:
        """Ends the answer."""
        if self._job.include_usage:
            self._pending += self._encoder.usage(self._usage, self._failovers.all)
        await self._writer.write(self._message(self._pending + DONE))

    async def fail(self, error: dict[str, Any]) -> None:
        """Ends an answer that failed after it had begun."""
        await self._writer.write(self._message(self._pending + error_event(error) + DONE))

    def _message(self, data: bytes) -> HttpBody:
        """The next message; the first one has the content type."""
        message = HttpBody(content_type=self._content_type, data=data)
        self._content_type = ""
        return message


class _InTurn:
    """A writer for several tasks: each waits until the other's message is sent."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._turn = asyncio.Lock()

    async def write(self, message: HttpBody) -> None:
        """Sends a message."""
        async with self._turn:
            await self._writer.write(message)


class _Failovers:
    """How a job's streams moved. Each end of a choice tells the moves until then, so the longest list has all."""

    def __init__(self) -> None:
        self._by_stream: dict[int, Sequence[pb.Failover]] = {}

    @property
    def all(self) -> list[pb.Failover]:
        """Every move once, in the order of the prompts."""
        return [move for base in sorted(self._by_stream) for move in self._by_stream[base]]

    def note(self, base: int, finished: pb.Finished) -> None:
        """Records the moves that the end of a choice tells."""
        if len(finished.failovers) > len(self._by_stream.get(base, ())):
            self._by_stream[base] = list(finished.failovers)


def add_usage(total: pb.Usage, usage: pb.Usage) -> None:
    """Adds `usage` to `total`."""
    total.prompt_tokens += usage.prompt_tokens
    total.completion_tokens += usage.completion_tokens
    total.cached_tokens += usage.cached_tokens
