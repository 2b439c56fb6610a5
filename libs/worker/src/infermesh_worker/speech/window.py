"""Writes down what is said in one window: token by token, and again at higher temperatures where it went wrong."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from infermesh_runtime.tensors import Array
from infermesh_worker.speech.config import SpecialTokens
from infermesh_worker.speech.device import SpeechSession
from infermesh_worker.speech.rules import TokenRules

MOST_REPEATED, LEAST_LOGPROB, NO_SPEECH = 2.4, -1.0, 0.6
"""A text whose compression ratio is higher, or whose mean log probability is lower, is written again; if it is that
improbable, and no speech more probable than this, nothing was said."""
LADDER = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Temperatures that are tried one after the other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Writing:
    """What was written of a window."""

    tokens: tuple[int, ...]
    """Text and times, without the token that ends it."""
    temperature: float
    mean_logprob: float
    """Of its tokens, the one that ends it included."""
    compression_ratio: float
    no_speech_prob: float

    @property
    def silent(self) -> bool:
        """Whether nothing was said."""
        return self.no_speech_prob > NO_SPEECH and self.mean_logprob < LEAST_LOGPROB

    @property
    def failed(self) -> bool:
        """Whether it repeats itself or is improbable, and so should be written again."""
        wrong = self.compression_ratio > MOST_REPEATED or self.mean_logprob < LEAST_LOGPROB
        return wrong and not self.silent


class WindowWriter:
    """Writes windows of one sound."""

    def __init__(
        self,
        session: SpeechSession,
        *,
        tokens: SpecialTokens,
        rules: TokenRules,
        positions: int,
        decode: Callable[[Sequence[int]], str],
        pulse: Callable[[], None],
    ) -> None:
        """`positions`: most tokens, prompt included. `decode` gives the text of tokens.

        `pulse` is called before each token; it may raise to end the work.
        """
        self._session = session
        self._tokens = tokens
        self._rules = rules
        self._positions = positions
        self._decode = decode
        self._pulse = pulse

    def write(self, prompt: Sequence[int], temperatures: Sequence[float], seed: Sequence[int]) -> Writing:
        """The first writing that is good, or the last one, of the window that the session has listened to.

        `seed`: of the random numbers at temperatures above 0.
        """
        for attempt, temperature in enumerate(temperatures):
            found = self._attempt(prompt, temperature, np.random.default_rng([*seed, attempt]))
            if not found.failed:
                break
        return found

    def _attempt(self, prompt: Sequence[int], temperature: float, random: np.random.Generator) -> Writing:
        written: list[int] = []
        logprobs: list[float] = []
        start = len(prompt) - 1 - prompt[::-1].index(self._tokens.start)
        self._session.begin()
        self._pulse()
        at_start, logits = self._session.extend(prompt, [start, len(prompt) - 1])
        no_speech = float(_softmax(at_start)[self._tokens.no_speech])
        while True:
            token, logprob = self._choose(logits, written, temperature, random)
            logprobs.append(logprob)
            if token == self._tokens.end:
                break
            written.append(token)
            if len(prompt) + len(written) >= self._positions:
                break
            self._pulse()
            (logits,) = self._session.extend([token], [0])
        return Writing(
            tokens=tuple(written),
            temperature=temperature,
            mean_logprob=sum(logprobs) / len(logprobs),
            compression_ratio=compression_ratio(self._decode(written)),
            no_speech_prob=no_speech,
        )

    def _choose(
        self, logits: Array, written: Sequence[int], temperature: float, random: np.random.Generator
    ) -> tuple[int, float]:
        """The next token and its log probability among those that may follow."""
        allowed = np.array(logits, np.float32)
        self._rules.apply(allowed, written)
        if temperature:
            token = int(random.choice(len(allowed), p=_softmax(allowed.astype(np.float64) / temperature)))
        else:
            token = int(allowed.argmax())
        most = float(allowed.max())
        return token, float(allowed[token]) - most - float(np.log(np.exp(allowed - most).sum(dtype=np.float64)))


def compression_ratio(text: str) -> float:
    """How much shorter zlib makes a text; much, where it repeats itself."""
    content = text.encode()
    return len(content) / len(zlib.compress(content))


def _softmax(logits: Array) -> Array:
    shares = np.exp(logits - logits.max())
    divided: Array = shares / shares.sum()
    return divided
