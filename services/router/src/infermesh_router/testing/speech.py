"""A scripted worker that transcribes and speaks, and calls to a router under test."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.testing.router import RunningRouter, ScriptedWorker
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.rpc.status import from_rpc_error
from infermesh_runtime.tensors import from_numpy

# ruff: noqa: ARG002 - the contract fixes the signatures of RPCs

StartSpeech = Callable[..., Awaitable["SpeechWorker"]]
"""Starts a worker with the fields given, until the test ends: the fixture `start_speech`."""
SEGMENTS = (" One,", " two,", " three", " four.")
SAMPLE_RATE = 24_000
VOICES = ("ada", "bob")
_KINDS = {"ears": pb.MODEL_KIND_TRANSCRIBE, "mouth": pb.MODEL_KIND_SPEAK}


@dataclass
class SpeechWorker(ScriptedWorker):
    """Has models "ears", which hears `SEGMENTS` in every sound, and "mouth", which says each word as a piece."""

    models: tuple[str, ...] = ("ears", "mouth", "m")
    kinds: Mapping[str, pb.ModelKind] = field(default_factory=lambda: _KINDS)
    heard: list[pb.TranscribeRequest] = field(default_factory=list)
    said: list[pb.SpeakRequest] = field(default_factory=list)
    faults: list[tuple[int, Exception | None]] = field(default_factory=list)
    """After how many parts each of the next calls fails, and of what; None: it is silent from there on."""
    skip: int = 0
    """How many parts it leaves out, wrongly."""
    pause_s: float = 0.0
    """Before each part."""
    sample_rate: int = SAMPLE_RATE

    async def Transcribe(
        self, request: pb.TranscribeRequest, context: RpcContext
    ) -> AsyncIterator[pb.TranscribeResponse]:
        """Writes the segments that were not delivered."""
        self.heard.append(request)
        async for index in self._parts(len(SEGMENTS), request.delivered_segments):
            if index in (None, request.delivered_segments):
                yield pb.TranscribeResponse(started=self._started(request.model, 0))
            if index is not None:
                yield pb.TranscribeResponse(segment=segment(index))
        usage = pb.Usage(prompt_tokens=1, completion_tokens=8)
        yield pb.TranscribeResponse(finished=pb.TranscribeFinished(language="en", duration_s=4.0, usage=usage))

    async def Speak(self, request: pb.SpeakRequest, context: RpcContext) -> AsyncIterator[pb.SpeakResponse]:
        """Writes the pieces that were not delivered."""
        self.said.append(request)
        words = request.text.split()
        async for index in self._parts(len(words), request.delivered_pieces):
            if index in (None, request.delivered_pieces):
                yield pb.SpeakResponse(started=self._started(request.model, self.sample_rate))
            if index is not None:
                yield pb.SpeakResponse(audio=piece(index, words[index % len(words)]))
        duration_s = 0.1 * (len(words) - request.delivered_pieces)
        finished = pb.SpeakFinished(duration_s=duration_s, characters=len(request.text))
        yield pb.SpeakResponse(finished=finished)

    async def _parts(self, count: int, first: int) -> AsyncIterator[int | None]:
        """The indexes of the parts to send; None if there are none. Fails as told."""
        after, error = self.faults.pop(0) if self.faults else (count + 1, None)
        if first >= count:
            yield None
        for done, index in enumerate(range(first, count)):
            if done == after:
                await _fail(error)
            await asyncio.sleep(self.pause_s)
            yield index + self.skip if done else index
        if count - first == after:
            await _fail(error)

    def _started(self, model: str, sample_rate: int) -> pb.AudioStarted:
        return pb.AudioStarted(model=model, device=self.device, sample_rate=sample_rate)

    def _report(self) -> pb.HealthReport:
        report = super()._report()
        for model in report.models:
            entry = report.available.add(name=model.name, kind=model.kind)
            if model.kind == pb.MODEL_KIND_SPEAK:
                entry.voices.extend(VOICES)
        return report


async def _fail(error: Exception | None) -> None:
    if error is not None:
        raise error
    await asyncio.Event().wait()


def segment(index: int) -> pb.SpeechSegment:
    """A segment, with its words."""
    text = SEGMENTS[index % len(SEGMENTS)]
    word = pb.SpeechWord(text=text, start_s=index + 0.25, end_s=index + 0.75, probability=0.5)
    return pb.SpeechSegment(
        index=index,
        start_s=index,
        end_s=index + 0.875,
        text=text,
        token_ids=[index, 7],
        temperature=0.0,
        mean_logprob=-0.5,
        compression_ratio=1.25,
        no_speech_prob=0.125,
        words=[word],
    )


def piece(index: int, word: str) -> pb.SpeechAudio:
    """The sound of a word: a tenth of a second of its length as a level."""
    samples = np.full(SAMPLE_RATE // 10, len(word) / 100, np.float32)
    return pb.SpeechAudio(index=index, samples=from_numpy(samples))


async def transcribe(router: RunningRouter, **fields: Any) -> list[pb.TranscribeResponse]:
    """All events of the answer. Raises the InfermeshError that the status stands for."""
    request = pb.TranscribeRequest(**{"model": "ears", "audio": b"sound", **fields})
    return await _all(router.inference.Transcribe(request, timeout=20))


async def speak(router: RunningRouter, **fields: Any) -> list[pb.SpeakResponse]:
    """The same for speech."""
    request = pb.SpeakRequest(**{"model": "mouth", "text": "one two three four", **fields})
    return await _all(router.inference.Speak(request, timeout=20))


async def _all(call: Any) -> list[Any]:
    try:
        return [event async for event in call]
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
