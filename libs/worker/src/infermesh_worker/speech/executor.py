"""Runs a Whisper model as an executor of kind transcribe: sound files in, segments of text out as they are found."""

import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.errors import Cancelled, InfermeshError, InvalidArgument
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import BuiltExecutor, Item, Outcome, Result
from infermesh_worker.sound.decoding import MOST_S, RATE, check_samples, decode
from infermesh_worker.speech.device import SpeechDevice
from infermesh_worker.speech.hearing import Segment, Wanted
from infermesh_worker.speech.room import Place, SoundRoom
from infermesh_worker.speech.transcriber import Transcriber
from infermesh_worker.speech.window import LADDER
from infermesh_worker.speech.word_times.words import SaidWord

AUDIO, SAMPLES = "audio", "samples"
"""Names of an item's tensor, one of the two: the bytes of a sound file, UINT8 [n], or FP32 [n] of 16 kHz."""
_ALIVE_S = 1.0
"""How often a run says that it lives."""


class SpeechExecutor:
    """Each run is one sound; several run at a time, token by token in turn, so that a long one holds up no others."""

    def __init__(self, transcriber: Transcriber, *, parallel: int) -> None:
        self._transcriber = transcriber
        self._room = SoundRoom()
        self.parallel = parallel
        self.info: RunnerInfo = transcriber.device.info

    @property
    def device(self) -> SpeechDevice:
        """What the model runs on."""
        return self._transcriber.device

    def group(self, item: Item) -> Hashable | None:  # noqa: ARG002 - each runs alone
        return None

    def size(self, item: Item) -> int:  # noqa: ARG002 - same
        return 1

    def run(self, items: Sequence[Item]) -> Sequence[Outcome]:
        return [self._outcome(item) for item in items]

    def memory_free_bytes(self) -> int:
        return self._transcriber.device.memory_free_bytes()

    def close(self) -> None:
        self._transcriber.device.close()

    def _outcome(self, item: Item) -> Outcome:
        try:
            return self._answer(item)
        except InfermeshError as error:
            return error

    def _answer(self, item: Item) -> Result:
        delivered = int(item.params.get("delivered_segments") or 0)

        def emit(segment: Segment) -> None:
            if segment.index >= delivered:
                item.emit(Result(params={"segment": segment_params(segment)}))

        pulse = _pulse(item)
        with self._room.place(pulse) as place:
            features = self._transcriber.features(_samples(item, pulse, place), pulse)
            place.prepared()
            heard = self._transcriber.transcribe(features, wanted(item.params), emit, pulse)
        return Result(
            params={
                "language": heard.language,
                "language_probability": heard.language_probability,
                "duration_s": heard.duration_s,
                "prompt_tokens": heard.prompt_tokens,
                "completion_tokens": heard.completion_tokens,
            }
        )


def built_speech_model(transcriber: Transcriber, *, name: str, parallel: int) -> BuiltExecutor:
    """What a worker's build function returns for a model of kind transcribe."""
    return BuiltExecutor(executor=SpeechExecutor(transcriber, parallel=parallel), kind="transcribe", name=name)


def wanted(params: Mapping[str, Any]) -> Wanted:
    """What an item's parameters ask for. A temperature of 0 is raised where the text goes wrong; others are kept."""
    temperature = float(params.get("temperature") or 0.0)
    return Wanted(
        task=str(params.get("task") or "transcribe"),
        language=str(params.get("language") or ""),
        prompt=str(params.get("prompt") or ""),
        temperatures=(temperature,) if temperature else LADDER,
        words=params.get("times") == "words",
        seed=int(params.get("seed") or 0),
    )


def segment_params(segment: Segment) -> dict[str, Any]:
    """A segment as values that msgpack can hold."""
    return {
        "index": segment.index,
        "start_s": segment.begin_s,
        "end_s": segment.end_s,
        "text": segment.text,
        "token_ids": list(segment.tokens),
        "temperature": segment.writing.temperature,
        "mean_logprob": segment.writing.mean_logprob,
        "compression_ratio": segment.compression_ratio,
        "no_speech_prob": segment.writing.no_speech_prob,
        "words": [_word_params(word) for word in segment.words],
    }


def _word_params(word: SaidWord) -> dict[str, Any]:
    return {"text": word.text, "start_s": word.begin_s, "end_s": word.end_s, "probability": word.probability}


def _samples(item: Item, pulse: Callable[[], None], place: Place) -> Array:
    if (file := item.tensors.get(AUDIO)) is not None:
        return decode(file.tobytes(), alive=pulse, grow=place.grow)
    if (samples := item.tensors.get(SAMPLES)) is not None:
        place.grow(min(samples.size / RATE, MOST_S))  # a longer one is refused
        return check_samples(samples)
    raise InvalidArgument("there is no sound: give a sound file or samples", fields={AUDIO: "is missing"})


def _pulse(item: Item) -> Callable[[], None]:
    """Ends a run that is no longer wanted, and says now and then that one goes on."""
    told_s = time.monotonic()

    def pulse() -> None:
        nonlocal told_s
        if item.cancelled():
            raise Cancelled("The request was cancelled.")
        if (now_s := time.monotonic()) >= told_s + _ALIVE_S:
            told_s = now_s
            item.alive()

    return pulse
