"""Turns a sound of any length into text: finds its language, and then its segments."""

from collections.abc import Callable

import numpy as np
from tokenizers import Tokenizer

from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.tensors import Array
from infermesh_worker.speech.config import SpeechConfig
from infermesh_worker.speech.device import SpeechDevice, SpeechSession
from infermesh_worker.speech.features import Features
from infermesh_worker.speech.hearing import Heard, Segment, Wanted
from infermesh_worker.speech.languages import language_code
from infermesh_worker.speech.long_form import LongForm
from infermesh_worker.speech.word_times.spelling import Spelling

_ENGLISH = "en"


class Transcriber:
    """A loaded model. May be used by several threads."""

    def __init__(self, device: SpeechDevice, config: SpeechConfig, tokenizer: Tokenizer) -> None:
        self.device = device
        self._config = config
        self._spelling = Spelling(tokenizer, config.tokens.end)

    def features(self, samples: Array, pulse: Callable[[], None]) -> Features:
        """What `transcribe` listens to, of a sound, FP32 [n] of 16 kHz. `pulse` is called now and then."""
        return Features(samples, self._config, pulse)

    def transcribe(
        self, features: Features, wanted: Wanted, emit: Callable[[Segment], None], pulse: Callable[[], None]
    ) -> Heard:
        """Emits the segments of a sound, each as soon as it is known.

        `pulse` is called at least once a token; it may raise to end the work. Raises InvalidArgument for a language or
        a task that the model does not know, and what the device raises.
        """
        language, chance = self._asked_language(wanted), 0.0
        before = self._spelling.encode(f" {wanted.prompt.strip()}") if wanted.prompt.strip() else []
        with self.device.session() as session:
            pulse()
            session.encode(features.window(0))
            if not language:
                language, chance = self._detect(session)
            way = LongForm(
                session,
                self._config,
                self._spelling,
                features,
                wanted,
                start=self._start(wanted.task, language),
                language=language,
                pulse=pulse,
            )
            for segment in way.segments(before):
                emit(segment)
        return Heard(
            language=language,
            language_probability=chance,
            duration_s=features.seconds,
            prompt_tokens=len(before),
            completion_tokens=way.written,
        )

    def _asked_language(self, wanted: Wanted) -> str:
        """The code of the language; "" if it must be detected. Raises InvalidArgument."""
        tokens = self._config.tokens
        if self._config.multilingual:
            if wanted.task not in tokens.tasks:
                message = f"the task {wanted.task[:40]!r} is unknown; expected transcribe or translate"
                raise InvalidArgument(message, fields={"task": message})
            return language_code(wanted.language, tokens.languages)
        if wanted.task != "transcribe":
            message = "the model knows no language but English, so it cannot translate"
            raise InvalidArgument(message, fields={"task": message})
        return language_code(wanted.language or _ENGLISH, {_ENGLISH: 0})

    def _start(self, task: str, language: str) -> list[int]:
        """The tokens that say what is to be written."""
        tokens = self._config.tokens
        if not self._config.multilingual:
            return [tokens.start]
        return [tokens.start, tokens.languages[language], tokens.tasks[task]]

    def _detect(self, session: SpeechSession) -> tuple[str, float]:
        """The most probable language of the window that the session has listened to, and its probability."""
        codes, ids = zip(*self._config.tokens.languages.items(), strict=True)
        session.begin()
        (logits,) = session.extend([self._config.tokens.start], [0])
        found = logits[list(ids)].astype(np.float64)
        shares = np.exp(found - found.max())
        best = int(shares.argmax())
        return codes[best], float(shares[best] / shares.sum())
