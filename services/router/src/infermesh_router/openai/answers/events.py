"""Answers with one choice, for dialects: parsed into parts, and written as the dialect's events or as one body."""

from collections.abc import Callable
from typing import Any, Protocol

import orjson
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.answers.parsed import Answer, ParsedAnswer
from infermesh_router.openai.answers.sinks import SendHeaders, Writer
from infermesh_runtime.answer_parsing.parts import Part, Tools
from infermesh_runtime.errors import InfermeshError


class Events(Protocol):
    """Makes the events of one streamed answer, as bytes; b"" where the dialect has none. `answer` is all so far."""

    content_type: str

    def begin(self, answer: Answer) -> bytes:
        """The events that open the answer."""
        ...

    def wait(self, text: str) -> bytes:
        """What tells a client that it waits, and for what; it may come before the events that open the answer."""
        ...

    def part(self, part: Part, answer: Answer) -> bytes:
        """The events of a new part, which `answer` has already."""
        ...

    def end(self, answer: Answer) -> bytes:
        """The events that close the answer."""
        ...

    def fail(self, error: InfermeshError, answer: Answer) -> bytes:
        """The events that tell an error in the middle of the answer, and close it."""
        ...


class EventsSink:
    """A `StreamedAnswer` that writes a dialect's events."""

    def __init__(
        self, events: Events, tools: Tools, send_headers: SendHeaders, writer: Writer, *, single_call: bool = False
    ) -> None:
        """`single_call`: calls after the first are left out."""
        self._events = events
        self._parsed = ParsedAnswer(tools, single_call=single_call)
        self._send_headers = send_headers
        self._writer = writer
        self._content_type = events.content_type
        self._pending = b""
        self.begun = False
        """Whether something was sent, so that an error can no longer be a status."""

    async def begin(self, base: int, started: pb.Started) -> None:  # noqa: ARG002 - a sink's shape
        """Sends the headers and the opening events at once, so that clients see that the answer begins."""
        self._parsed.begin(started)
        await self._open(started)
        await self._write(self._events.begin(self._parsed.answer))

    async def take_delta(self, base: int, delta: pb.Delta) -> None:  # noqa: ARG002
        """Writes what became certain with new output."""
        answer = self._parsed.answer
        await self._write(b"".join(self._events.part(part, answer) for part in self._parsed.take(delta)))

    async def take_finished(self, base: int, finished: pb.Finished) -> None:  # noqa: ARG002
        """Takes the end, which is written with the closing events."""
        answer = self._parsed.answer
        self._pending = b"".join(self._events.part(part, answer) for part in self._parsed.finish(finished))

    async def tell(self, text: str) -> None:
        """Tells what the request waits for, if the dialect can; before anything else, that begins the answer."""
        if data := self._events.wait(text):
            await self._open(None)
            await self._write(data)

    async def end(self) -> None:
        """Ends the answer."""
        await self._write(self._pending + self._events.end(self._parsed.answer))

    async def fail(self, error: InfermeshError) -> None:
        """Ends an answer that failed after it had begun."""
        await self._write(self._pending + self._events.fail(error, self._parsed.answer))

    async def _open(self, started: pb.Started | None) -> None:
        if not self.begun:
            await self._send_headers(started)
            self.begun = True

    async def _write(self, data: bytes) -> None:
        if data:
            message = HttpBody(content_type=self._content_type, data=data)
            self._content_type = ""  # the first message has it
            await self._writer.write(message)


class BodySink:
    """A `WholeAnswer` that makes one body of the answer."""

    def __init__(
        self,
        make: Callable[[Answer], dict[str, Any]],
        tools: Tools,
        send_headers: SendHeaders,
        *,
        single_call: bool = False,
    ) -> None:
        """`single_call`: calls after the first are left out."""
        self._make = make
        self._parsed = ParsedAnswer(tools, single_call=single_call)
        self._send_headers = send_headers

    async def begin(self, base: int, started: pb.Started) -> None:  # noqa: ARG002 - a sink's shape
        """Sends the headers."""
        self._parsed.begin(started)
        await self._send_headers(started)

    async def take_delta(self, base: int, delta: pb.Delta) -> None:  # noqa: ARG002
        """Takes new output."""
        self._parsed.take(delta)

    async def take_finished(self, base: int, finished: pb.Finished) -> None:  # noqa: ARG002
        """Takes the end."""
        self._parsed.finish(finished)

    def body(self) -> bytes:
        """The answer as JSON."""
        return orjson.dumps(self._make(self._parsed.answer))
