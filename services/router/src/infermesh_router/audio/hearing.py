"""Writes the answer of a transcription: a whole text, or events as its segments come."""

from collections.abc import AsyncIterator, Awaitable, Callable

from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.audio.convert import TextAnswer
from infermesh_router.audio.transcripts import delta_event, done_event, transcript
from infermesh_router.openai.answers.chunks import DONE, data_event
from infermesh_router.openai.answers.sinks import EVENTS, Writer
from infermesh_router.openai.errors import error_object
from infermesh_router.relay.streams.event import StreamEvent
from infermesh_runtime.errors import InfermeshError

Begin = Callable[[pb.AudioStarted], Awaitable[None]]
"""Sends the response's headers, which say what `started` says."""


async def hear(events: AsyncIterator[StreamEvent], begin: Begin, answer: TextAnswer) -> HttpBody:
    """The whole answer."""
    segments: list[pb.SpeechSegment] = []
    finished = pb.TranscribeFinished()
    async for _, content in events:
        match content.WhichOneof("event"):
            case "started":
                await begin(content.started)
            case "segment":
                segments.append(content.segment)
            case "finished":
                finished = content.finished
    content_type, body = transcript(answer, segments, finished)
    return HttpBody(content_type=content_type, data=body)


class HeardEvents:
    """Writes server-sent events."""

    def __init__(self, begin: Begin, writer: Writer) -> None:
        self._begin = begin
        self._writer = writer
        self._segments: list[pb.SpeechSegment] = []
        self.begun = False
        """Whether something was sent, so that an error can no longer be a status."""

    async def take(self, content: pb.TranscribeResponse) -> None:
        """Writes an event."""
        match content.WhichOneof("event"):
            case "started":
                await self._begin(content.started)
            case "segment":
                first = not self._segments
                self._segments.append(content.segment)
                await self._write(delta_event(content.segment, first=first))
            case "finished":
                await self._write(done_event(self._segments, content.finished))

    async def end(self) -> None:
        """Nothing is left to be written: the last event says that it is the last."""

    async def fail(self, error: InfermeshError) -> None:
        """Ends an answer that failed after it had begun."""
        await self._write(data_event(error_object(error)) + DONE)

    async def _write(self, data: bytes) -> None:
        content_type = "" if self.begun else EVENTS
        self.begun = True
        await self._writer.write(HttpBody(content_type=content_type, data=data))
