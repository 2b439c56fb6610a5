"""Builds the requests about speech that both clients send, and reads their answers."""

import os
import struct
import wave
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypedDict

import numpy as np

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.tensors import Array, from_numpy, to_numpy

Sound = str | os.PathLike[str] | bytes | Array
"""The path of a sound file, its bytes, or samples: float32 [samples] in [-1, 1]."""
Segment = pb.SpeechSegment
_RATE = 16_000
_FLOATS = 3
"""As the format of a WAV file."""


class TranscribeOptions(TypedDict, total=False):
    """Options of `transcribe`; TranscribeRequest in the contract says more."""

    sample_rate: int
    """Samples a second of a sound that is given as samples; default 16,000."""
    language: str
    """Language of the speech, such as "en"; default: it is detected."""
    prompt: str
    """Text that the model takes as what was said before."""
    temperature: float
    words: bool
    """Whether segments have the times of their words; default: they have not."""
    translate: bool
    """Whether the text is in English, whatever the language of the speech; default: it is not."""
    seed: int
    device: str
    priority: int


class SpeakOptions(TypedDict, total=False):
    """Options of `speak`; SpeakRequest in the contract says more."""

    voice: str
    """Name of the voice, or several joined by "+"; default: the model's first."""
    speed: float
    """How fast, from 0.25 to 4; default 1."""
    language: str
    device: str
    priority: int


@dataclass(slots=True)
class Transcript:
    """The text of speech."""

    segments: list[Segment] = field(default_factory=list)
    started: pb.AudioStarted = field(default_factory=pb.AudioStarted)
    finished: pb.TranscribeFinished = field(default_factory=pb.TranscribeFinished)
    """Language, duration, and how the stream moved."""

    @property
    def text(self) -> str:
        """The whole text."""
        return "".join(segment.text for segment in self.segments).strip()

    @property
    def language(self) -> str:
        """ISO 639-1 code of the language."""
        return self.finished.language

    def take(self, response: pb.TranscribeResponse) -> Segment | None:
        """Records an event; returns the segment that it brings, if it does."""
        match response.WhichOneof("event"):
            case "started":
                self.started = response.started
            case "finished":
                self.finished = response.finished
            case "segment":
                self.segments.append(response.segment)
                return response.segment
        return None


@dataclass(slots=True)
class Speech:
    """The sound of a text."""

    pieces: list[Array] = field(default_factory=list)
    """As they came: float32 [samples] each."""
    started: pb.AudioStarted = field(default_factory=pb.AudioStarted)
    finished: pb.SpeakFinished = field(default_factory=pb.SpeakFinished)
    """Duration, and how the stream moved."""

    @property
    def samples(self) -> Array:
        """All of the sound: float32 [samples] in [-1, 1]."""
        return np.concatenate(self.pieces) if self.pieces else np.zeros(0, np.float32)

    @property
    def sample_rate(self) -> int:
        """Samples a second."""
        return self.started.sample_rate

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes a WAV file of 16-bit samples. Raises OSError."""
        with Path(path).open("wb") as opened, wave.open(opened, "wb") as file:
            file.setparams((1, 2, self.sample_rate, 0, "NONE", ""))
            file.writeframes((np.clip(self.samples, -1, 1) * 32_767).round().astype("<i2").tobytes())

    def take(self, response: pb.SpeakResponse) -> None:
        """Records an event."""
        match response.WhichOneof("event"):
            case "started":
                self.started = response.started
            case "finished":
                self.finished = response.finished
            case "audio":
                self.pieces.append(to_numpy(response.audio.samples, field="samples"))


def build_transcribe_request(model: str, sound: Sound, options: TranscribeOptions) -> pb.TranscribeRequest:
    """The request. Raises InvalidArgument for a file that cannot be read, and for an array that is no sound."""
    request = pb.TranscribeRequest(
        model=model,
        language=options.get("language", ""),
        prompt=options.get("prompt", ""),
        temperature=options.get("temperature"),
        times=pb.SPEECH_TIMES_WORDS if options.get("words") else pb.SPEECH_TIMES_SEGMENTS,
        task=pb.SPEECH_TASK_TRANSLATE if options.get("translate") else pb.SPEECH_TASK_TRANSCRIBE,
        seed=options.get("seed"),
        device=options.get("device", ""),
        priority=options.get("priority", 0),
    )
    if isinstance(sound, bytes):
        request.audio = sound
    elif isinstance(sound, str | os.PathLike):
        request.audio = _read(Path(sound))
    else:
        _put_samples(request, sound, options.get("sample_rate", _RATE))
    return request


def build_speak_request(model: str, text: str, options: SpeakOptions) -> pb.SpeakRequest:
    """The request."""
    return pb.SpeakRequest(
        model=model,
        text=text,
        voice=options.get("voice", ""),
        speed=options.get("speed"),
        language=options.get("language", ""),
        device=options.get("device", ""),
        priority=options.get("priority", 0),
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        problem = f"{path} cannot be read: {error.strerror or error}"
        raise InvalidArgument(problem, reason="UNREADABLE_FILE", fields={"audio": problem}) from error


def _put_samples(request: pb.TranscribeRequest, samples: Array, rate: int) -> None:
    if samples.ndim != 1 or samples.dtype.kind != "f":
        problem = f"must be numbers of the shape [samples], not {samples.dtype} of the shape {_show(samples.shape)}"
        raise InvalidArgument(f"samples: {problem}", fields={"samples": problem})
    floats = np.ascontiguousarray(samples, "<f4")
    if rate == _RATE:
        request.samples.CopyFrom(from_numpy(floats))
        return
    if not 1 <= rate < 1 << 32:
        raise InvalidArgument(f"sample_rate: must be at least 1, not {rate}", fields={"sample_rate": str(rate)})
    # the worker changes the rate of files
    shape = struct.pack("<IHHIIHH", 16, _FLOATS, 1, rate, 4 * rate, 4, 32)
    content = b"WAVEfmt " + shape + b"data" + struct.pack("<I", floats.nbytes) + floats.tobytes()
    request.audio = b"RIFF" + struct.pack("<I", len(content)) + content


def _show(shape: Sequence[int]) -> str:
    return f"[{', '.join(map(str, shape))}]"
