"""Times one answer as its caller sees it: the first token, and the rate after it."""

import time
from collections.abc import Callable

from infermesh.inference.v1 import inference_pb2

Clock = Callable[[], float]
"""Seconds that only go forward."""


class Stopwatch:
    """The times of one answer."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._asked_s = clock()
        self._first_s = self._last_s = 0.0
        self.tokens = 0
        """Tokens that have arrived."""

    def take(self, delta: inference_pb2.Delta) -> None:
        """Notes that a part of the answer has arrived."""
        self._last_s = self._clock()
        self._first_s = self._first_s or self._last_s
        self.tokens += len(delta.token_ids)

    @property
    def ttft_s(self) -> float:
        """From the question to the first part of the answer; 0 if there is none."""
        return self._first_s - self._asked_s if self._first_s else 0.0

    @property
    def tokens_per_s(self) -> float:
        """After the first token; 0 if there was one or none."""
        wrote_s = self._last_s - self._first_s
        return (self.tokens - 1) / wrote_s if self.tokens > 1 and wrote_s > 0 else 0.0
