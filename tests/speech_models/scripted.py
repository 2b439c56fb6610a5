"""A Whisper without a device: it writes what a test says, as surely as the test says."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.tensors import Array
from infermesh_worker.executors.executor import executor_info
from infermesh_worker.speech.config import SpeechConfig


@dataclass(frozen=True, slots=True)
class Script:
    """What is written the next time that a text is begun."""

    tokens: Sequence[int]
    """Without the one that ends it."""
    sure: float = 30.0
    """How much higher the logit of the next token is than all others."""
    no_speech: float = 0.0
    """The same for the token that says that nobody speaks."""


class ScriptedSpeech:
    """The device and its only session. `prompts` and `windows` tell what it was given."""

    def __init__(self, config: SpeechConfig, scripts: Sequence[Script]) -> None:
        self._config = config
        self._scripts = list(scripts)
        self._left: list[int] = []
        self._script = Script(())
        self.prompts: list[list[int]] = []
        self.windows: list[Array] = []
        self.steps = 0
        self.info: RunnerInfo = executor_info(
            device_kind="cpu", device_name="script", memory_total_bytes=1, runtime="script", weights_bytes=1
        )

    @contextmanager
    def session(self) -> Iterator["ScriptedSpeech"]:
        yield self

    def encode(self, features: Array) -> None:
        self.windows.append(features)

    def begin(self) -> None:
        self._left = []

    def extend(self, ids: Sequence[int], places: Sequence[int]) -> Array:
        self.steps += 1
        if len(ids) > 1:
            self.prompts.append(list(ids))
            self._script = self._scripts.pop(0)
            self._left = [*self._script.tokens, self._config.tokens.end]
        logits = np.zeros((len(places), self._config.vocab_size), np.float32)
        if len(ids) > 1:
            logits[0, self._config.tokens.no_speech] = self._script.no_speech
        if self._left:
            logits[-1, self._left.pop(0)] = self._script.sure
        else:  # the language is asked for
            logits[-1, next(iter(self._config.tokens.languages.values()))] = self._script.sure
        return logits

    def align(self, ids: Sequence[int]) -> tuple[Array, Array]:
        """Each token is sure, and looks at a frame of its own, one tenth of a second after the other."""
        logits = np.zeros((len(ids), self._config.vocab_size), np.float32)
        for place, token in enumerate(ids[1:]):
            logits[place, token] = 30.0
        looks = np.zeros((2, len(ids), self._config.frames), np.float32)
        for place in range(len(ids)):
            looks[:, place, min(5 * place, self._config.frames - 5) : 5 * place + 5] = 8.0
        return logits, looks

    def memory_free_bytes(self) -> int:
        return 1

    def close(self) -> None:
        """Nothing to free."""
