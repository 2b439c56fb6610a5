"""Measures prefill and decode rates: tokens per second over the last few seconds of work."""

from collections.abc import Callable
from math import exp


class Rate:
    """Tokens per second. Older work counts exponentially less, time without work does not count."""

    __slots__ = ("_seconds", "_tokens", "_window_s")

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._tokens = 0.0
        self._seconds = 0.0

    @property
    def per_s(self) -> float:
        """0 before any work."""
        return self._tokens / self._seconds if self._seconds else 0.0

    def add(self, tokens: int, seconds: float) -> None:
        decay = exp(-seconds / self._window_s)
        self._tokens = self._tokens * decay + tokens
        self._seconds = self._seconds * decay + seconds


class RateMeter:
    """The rates of an engine's steps. A step that prefills and decodes counts with its whole time in both rates.

    So each rate is the speed of its tokens in steps that had any, including the cost of what ran beside them.
    """

    def __init__(self, clock: Callable[[], float], *, window_s: float = 5.0) -> None:
        """`clock` gives monotonic seconds. Work weighs 1/e once `window_s` seconds of later work have been counted."""
        self._clock = clock
        self.begun_s = 0.0
        """When the current step began."""
        self.prefill = Rate(window_s)
        self.decode = Rate(window_s)

    def begin(self) -> None:
        """Marks the start of a step."""
        self.begun_s = self._clock()

    def now(self) -> float:
        """The time, in seconds."""
        return self._clock()

    def end(self, *, prefill_tokens: int, decode_tokens: int) -> float:
        """Counts the step that began at the last `begin`; returns how long it took, in seconds."""
        seconds = self._clock() - self.begun_s
        if prefill_tokens:
            self.prefill.add(prefill_tokens, seconds)
        if decode_tokens:
            self.decode.add(decode_tokens, seconds)
        return seconds
