"""The dialect of /v1/responses: one body or a stream of events. A response is kept before its end is told."""

from collections.abc import Awaitable, Callable
from typing import Any

import orjson

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.answers.events import EventsSink
from infermesh_router.openai.answers.parsed import ParsedAnswer
from infermesh_router.openai.answers.sinks import SendHeaders, Writer
from infermesh_router.openai.errors import rename_fields
from infermesh_router.openai.job import Job
from infermesh_router.responses.events import ResponseEvents
from infermesh_router.responses.told import Told
from infermesh_runtime.errors import InfermeshError

Keep = Callable[[dict[str, Any]], Awaitable[None]]
"""Keeps a response that has ended. Never raises an InfermeshError."""


class ResponsesDialect:
    """A `Dialect` for one request."""

    def __init__(self, told: Told, keep: Keep) -> None:
        self._told = told
        self._keep = keep

    def whole(self, job: Job, send_headers: SendHeaders) -> "WholeResponse":
        """See `Dialect`."""
        return WholeResponse(job, self._told, self._keep, send_headers)

    def streamed(self, job: Job, send_headers: SendHeaders, writer: Writer) -> "StreamedResponse":
        """See `Dialect`."""
        return StreamedResponse(job, self._told, self._keep, send_headers, writer)

    def rename(self, error: InfermeshError, job: Job) -> InfermeshError:
        """See `Dialect`."""
        return rename_fields(error, job.field_names)


class WholeResponse:
    """A `WholeAnswer`: the response that the last event of its stream would tell."""

    def __init__(self, job: Job, told: Told, keep: Keep, send_headers: SendHeaders) -> None:
        self._events = ResponseEvents(job, told)
        self._parsed = ParsedAnswer(job.tools, single_call=job.single_call)
        self._keep = keep
        self._send_headers = send_headers
        self._response: dict[str, Any] = {}

    async def begin(self, base: int, started: pb.Started) -> None:  # noqa: ARG002 - a sink's shape
        """Sends the headers."""
        self._parsed.begin(started)
        self._events.answer = self._parsed.answer
        await self._send_headers(started)

    async def take_delta(self, base: int, delta: pb.Delta) -> None:  # noqa: ARG002
        """Takes new output."""
        for part in self._parsed.take(delta):
            self._events.part(part, self._parsed.answer)

    async def take_finished(self, base: int, finished: pb.Finished) -> None:  # noqa: ARG002
        """Takes the end."""
        answer = self._parsed.answer
        for part in self._parsed.finish(finished):
            self._events.part(part, answer)
        self._response = self._events.ended()
        await self._keep(self._response)

    def body(self) -> bytes:
        """The response as JSON."""
        return orjson.dumps(self._response)


class StreamedResponse:
    """A `StreamedAnswer`."""

    def __init__(self, job: Job, told: Told, keep: Keep, send_headers: SendHeaders, writer: Writer) -> None:
        self._events = ResponseEvents(job, told)
        self._sink = EventsSink(self._events, job.tools, send_headers, writer, single_call=job.single_call)
        self._keep = keep
        self.begin = self._sink.begin
        self.tell = self._sink.tell
        self.take_delta = self._sink.take_delta
        self.take_finished = self._sink.take_finished
        self.fail = self._sink.fail

    @property
    def begun(self) -> bool:
        """Whether something was sent, so that an error can no longer be a status."""
        return self._sink.begun

    async def end(self) -> None:
        """Keeps the response, so that the client can refer to it as soon as it knows the end, and tells the end."""
        await self._keep(self._events.ended())
        await self._sink.end()
