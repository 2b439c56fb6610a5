"""Writes speech as it is made: the bytes of a sound file, or server-sent events that carry them."""

import asyncio
import base64
from typing import Any, Protocol

import numpy as np
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.audio.convert import SoundAnswer
from infermesh_router.audio.encoders import CONTENT_TYPES, SoundEncoder, sound_encoder
from infermesh_router.audio.hearing import Begin
from infermesh_router.openai.answers.chunks import DONE, data_event, failovers_member
from infermesh_router.openai.answers.sinks import EVENTS
from infermesh_router.openai.errors import error_object
from infermesh_runtime.errors import InfermeshError, Internal
from infermesh_runtime.tensors import Array, to_numpy

_MOST_RATE = 768_000
_NO_HTTP_BODY = b"\xff"
"""A message that Envoy cannot read, so that it resets the stream. After a status, however bad, it would end the body of
the HTTP response as if it were complete, and a sound file has no place for an error."""


class RawWriter(Protocol):
    """What a stream needs of the RPC; it passes on what is serialised already."""

    async def write(self, message: HttpBody | bytes) -> None:
        """Sends a message. Must not be called again before it returns."""


class SpokenSound:
    """Encodes each piece in a thread, and writes what there is of the file."""

    def __init__(self, answer: SoundAnswer, begin: Begin, writer: RawWriter) -> None:
        self._answer = answer
        self._begin = begin
        self._writer = writer
        self._encoder: SoundEncoder | None = None
        self._content_type = EVENTS if answer.events else CONTENT_TYPES[answer.format]
        self.begun = False
        """Whether something was sent, so that an error can no longer be a status."""

    async def take(self, content: pb.SpeakResponse) -> None:
        """Writes what an event brings. Raises Internal for sound that is none."""
        match content.WhichOneof("event"):
            case "started":
                self._encoder = await asyncio.to_thread(sound_encoder, self._answer.format, _rate(content.started))
                await self._begin(content.started)
            case "audio":
                await self._write(await asyncio.to_thread(self._require().add, _samples(content.audio)))
            case "finished":
                await self._write(await asyncio.to_thread(self._require().end), last=not self._answer.events)
                if self._answer.events:
                    await self._write_event(_done(content.finished))

    async def end(self) -> None:
        """Nothing is left to be written."""

    async def fail(self, error: InfermeshError) -> None:
        """Ends an answer that failed after it had begun: by an event, or by cutting the sound off. Then it raises."""
        if not self._answer.events:
            await self._writer.write(_NO_HTTP_BODY)
            raise error
        await self._send(data_event(error_object(error)) + DONE)

    def _require(self) -> SoundEncoder:
        if self._encoder is None:
            raise Internal("An endpoint sent sound before the beginning of its stream.")
        return self._encoder

    async def _write(self, data: bytes, *, last: bool = False) -> None:
        """Writes new bytes of the file, if there are any; the last message comes anyway."""
        if self._answer.events:
            if data:
                await self._write_event({"type": "speech.audio.delta", "audio": base64.b64encode(data).decode()})
        elif data or (last and not self.begun):
            await self._send(data)

    async def _write_event(self, document: dict[str, Any]) -> None:
        await self._send(data_event(document))

    async def _send(self, data: bytes) -> None:
        content_type = "" if self.begun else self._content_type
        self.begun = True
        await self._writer.write(HttpBody(content_type=content_type, data=data))


def _rate(started: pb.AudioStarted) -> int:
    if not 1 <= started.sample_rate <= _MOST_RATE:
        raise Internal(f"An endpoint announced sound of {started.sample_rate} samples a second.")
    return int(started.sample_rate)


def _samples(audio: pb.SpeechAudio) -> Array:
    samples = to_numpy(audio.samples, field="samples")
    if samples.dtype != np.float32 or samples.ndim != 1:
        raise Internal(f"An endpoint sent sound of the type {samples.dtype} and shape {list(samples.shape)}.")
    return samples


def _done(finished: pb.SpeakFinished) -> dict[str, Any]:
    usage = {"input_tokens": 0, "output_tokens": 0, "total_tokens": 0}
    return {"type": "speech.audio.done", "usage": usage} | failovers_member(finished.failovers)
