"""Speaks texts, a piece at a time; pieces of several requests take turns on the device."""

from collections.abc import Hashable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Protocol

import numpy as np

from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.errors import Cancelled, InfermeshError, Internal, InvalidArgument
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import Item, Outcome, Result
from infermesh_worker.speaking.interface import SAMPLE_RATE, Speaker
from infermesh_worker.speaking.kokoro_folder import MOST_PHONEMES
from infermesh_worker.speaking.languages import language_of
from infermesh_worker.speaking.splitting import parts, sentences
from infermesh_worker.speaking.voice_mix import mean_styles, voices_of

PIECE_PHONEMES = 150
"""Most phonemes of a piece, about 12 s of sound: the model hurries through longer ones, and others wait."""
_PARALLEL = 4
_EDGE = 0
"""Id of the mark before and after the phonemes."""


class Phonemizer(Protocol):
    """Turns text into phonemes, in several threads at a time."""

    def phonemes(self, text: str, language: str) -> str: ...


class SpeakingExecutor:
    """Kokoro with its voices. The first voice is the default."""

    def __init__(
        self, speaker: Speaker, phonemizer: Phonemizer, voices: Mapping[str, Array], vocabulary: Mapping[str, int]
    ) -> None:
        self._speaker = speaker
        self._phonemizer = phonemizer
        self._voices = voices
        self._vocabulary = vocabulary
        self._turns = ThreadPoolExecutor(1, thread_name_prefix="speak")
        """Runs the graph, for whoever came first, so that a long text lets others in between."""
        self.parallel = _PARALLEL

    @property
    def info(self) -> RunnerInfo:
        return self._speaker.info

    def group(self, item: Item) -> Hashable | None:  # noqa: ARG002 - the interface's signature
        return None

    def size(self, item: Item) -> int:  # noqa: ARG002 - the interface's signature
        return 1

    def run(self, items: Sequence[Item]) -> Sequence[Outcome]:
        return [self._outcome(item) for item in items]

    def memory_free_bytes(self) -> int:
        return self._speaker.memory_free_bytes()

    def close(self) -> None:
        self._turns.shutdown(wait=False, cancel_futures=True)

    def _outcome(self, item: Item) -> Outcome:
        try:
            return self._speak(item)
        except InfermeshError as error:
            return error

    def _speak(self, item: Item) -> Result:
        text, speed = item.params["text"], item.params["speed"]
        names = voices_of(item.params["voice"], self._voices)
        styles = mean_styles(names, self._voices)
        language = language_of(names[0], item.params["language"])
        samples, piece = 0, -1
        for piece, ids in enumerate(self._pieces(text, language, speed)):
            if item.cancelled():
                raise Cancelled("The request was cancelled.")
            if piece >= item.params["delivered_pieces"]:
                sound = self._turns.submit(self._sound, ids, styles, speed).result()
                samples += sound.size
                item.emit(Result(params={"piece": piece, "sample_rate": SAMPLE_RATE}, tensors={"samples": sound}))
        if piece < 0:
            problem = "nothing in it can be spoken"
            raise InvalidArgument(f"text: {problem}", fields={"text": problem})
        return Result(params={"duration_s": samples / SAMPLE_RATE, "characters": len(text), "prompt_tokens": 0})

    def _pieces(self, text: str, language: str, speed: float) -> Iterator[Sequence[int]]:
        """The ids of each piece's phonemes. They depend on nothing else, so that another worker can go on."""
        most = max(1, int(min(PIECE_PHONEMES * min(speed, 1.0), MOST_PHONEMES)))
        known = self._vocabulary
        for sentence in sentences(text):
            phonemes = "".join(filter(known.__contains__, self._phonemizer.phonemes(sentence, language)))
            for part in parts(" ".join(phonemes.split()), most):
                if any(phoneme.isalpha() for phoneme in part):
                    yield [known[phoneme] for phoneme in part]

    def _sound(self, ids: Sequence[int], styles: Array, speed: float) -> Array:
        """FP32 [samples], in [-1, 1]."""
        framed = np.array([[_EDGE, *ids, _EDGE]], np.int64)
        sound = self._speaker.speak(framed, styles[len(ids) - 1 : len(ids)], speed)
        if not np.isfinite(sound).all():
            raise Internal("The model gave a sound that is not finite.")
        return np.clip(sound, -1.0, 1.0)
