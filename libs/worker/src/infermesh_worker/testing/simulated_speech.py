"""Models of the kinds transcribe and speak without a device, for tests; they can wait, fail or die when told.

What they write and say is decided by what they are given, so that another worker goes on where one has stopped.
"""

import os
import re
import signal
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import numpy as np

from infermesh_engine.runners.device_kind import DeviceKind
from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.errors import Cancelled, InvalidArgument
from infermesh_runtime.manifest.model_kind import SPEAK, ModelKind
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import BuiltExecutor, Item, Outcome, Result, executor_info

VOICES = ("ada", "bob")
SAMPLE_RATE = 24_000
BAD, DEADLY = b"BAD", b"DEADLY"
"""At the beginning of a sound or a text: it is refused; the process kills itself."""
SEGMENT_S = 2.0
CHARACTER_S = 0.05
"""Length of the sound of a character."""
_SENTENCES = re.compile(r"[^.!?]+[.!?]*\s*")


class SimulatedSpeech:
    """Takes one request after the other in each of its threads, and sleeps before each part of an answer."""

    def __init__(
        self,
        *,
        kind: ModelKind,
        device_kind: DeviceKind,
        memory_bytes: int,
        part_s: float,
        segments: int,
        parallel: int,
    ) -> None:
        self.parallel = parallel
        self._run: Callable[[Item], Result] = self._speak if kind == SPEAK else self._transcribe
        self._part_s, self._segments = part_s, segments
        self._memory_bytes = memory_bytes
        self.info: RunnerInfo = executor_info(
            device_kind=device_kind,
            device_name="simulated",
            memory_total_bytes=memory_bytes,
            runtime="simulated",
            weights_bytes=1 << 20,
            memory_bytes=1 << 20,
        )

    def group(self, item: Item) -> Hashable | None:  # noqa: ARG002 - the interface's signature
        return None

    def size(self, item: Item) -> int:  # noqa: ARG002 - the interface's signature
        return 1

    def run(self, items: Sequence[Item]) -> Sequence[Outcome]:
        return [self._run(item) for item in items]

    def memory_free_bytes(self) -> int:
        return self._memory_bytes

    def close(self) -> None:
        self._memory_bytes = 0

    def _wait(self, item: Item) -> None:
        time.sleep(self._part_s)
        if item.cancelled():
            raise Cancelled("nobody waits for this")

    def _transcribe(self, item: Item) -> Result:
        params = item.params
        sound, duration_s = _sound_of(item)
        segments = list(texts_of(sound, self._segments, task=params["task"]))
        for index, text in enumerate(segments):
            if index >= params["delivered_segments"]:
                self._wait(item)
                item.emit(Result(params={"segment": segment(index, text, words=params["times"] == "words")}))
        told = params["language"]
        return Result(
            params={
                "language": told or "en",
                "language_probability": 0.0 if told else 0.75,
                "duration_s": duration_s,
                "prompt_tokens": len(params["prompt"].split()),
                "completion_tokens": sum(len(text.split()) for text in segments),
            }
        )

    def _speak(self, item: Item) -> Result:
        params = item.params
        _obey(params["text"].encode())
        pieces = list(sound_of(params["text"], speed=params["speed"], voice=params["voice"] or VOICES[0]))
        for index, samples in enumerate(pieces):
            if index >= params["delivered_pieces"]:
                self._wait(item)
                item.emit(Result(params={"piece": index, "sample_rate": SAMPLE_RATE}, tensors={"samples": samples}))
        return Result(
            params={
                "duration_s": sum(map(len, pieces)) / SAMPLE_RATE,
                "characters": len(params["text"]),
                "prompt_tokens": 0,
            }
        )


def texts_of(sound: bytes, segments: int, *, task: str = "transcribe") -> Iterator[str]:
    """The text of each segment of a sound."""
    digest = blake2b(sound, digest_size=4).hexdigest()
    verb = "Heard" if task == "transcribe" else "Translated"
    for index in range(segments):
        yield f" {verb} {digest} part {index}."


def segment(index: int, text: str, *, words: bool) -> dict[str, Any]:
    """The values of a segment."""
    start_s = index * SEGMENT_S
    spoken = text.split()
    step_s = SEGMENT_S / len(spoken)
    times = [(start_s + place * step_s, start_s + (place + 1) * step_s) for place in range(len(spoken))]
    return {
        "index": index,
        "start_s": start_s,
        "end_s": start_s + SEGMENT_S,
        "text": text,
        "token_ids": list(range(len(spoken))),
        "temperature": 0.0,
        "mean_logprob": -0.25,
        "compression_ratio": 1.5,
        "no_speech_prob": 0.125,
        "words": [
            {"text": f" {word}", "start_s": begin_s, "end_s": end_s, "probability": 0.5}
            for word, (begin_s, end_s) in zip(spoken, times, strict=True)
        ]
        if words
        else [],
    }


def sound_of(text: str, *, speed: float = 1.0, voice: str = VOICES[0]) -> Iterator[Array]:
    """The samples of each sentence: a tone whose pitch depends on the sentence and the voice."""
    for sentence in _SENTENCES.findall(text):
        count = int(len(sentence) * CHARACTER_S / speed * SAMPLE_RATE)
        pitch = 200 + blake2b(f"{voice}:{sentence}".encode(), digest_size=1).digest()[0]
        yield (0.5 * np.sin(2 * np.pi * pitch * np.arange(count) / SAMPLE_RATE)).astype(np.float32)


def _sound_of(item: Item) -> tuple[bytes, float]:
    """The bytes of the sound, and how long it is: a file counts as 16-bit samples."""
    if (samples := item.tensors.get("samples")) is not None:
        return samples.tobytes(), samples.size / 16_000
    audio = item.tensors["audio"].tobytes()
    _obey(audio)
    return audio, len(audio) / 32_000


def _obey(given: bytes) -> None:
    if given.startswith(BAD):
        problem = "cannot be read as WAV, FLAC, MP3 or OGG"
        raise InvalidArgument(f"audio: {problem}", reason="UNSUPPORTED_SOUND", fields={"audio": problem})
    if given.startswith(DEADLY):
        os.kill(os.getpid(), signal.SIGKILL)


def build(options: Mapping[str, Any]) -> BuiltExecutor:
    """Builds one in the engine process. Options: the arguments of SimulatedSpeech."""
    return BuiltExecutor(executor=SimulatedSpeech(**options), kind=options["kind"], name="speech")
