"""Owns measured rates: tokens per second over the last seconds of work. Knows no engine."""

from collections.abc import Callable
from math import exp


class Rate:
    """Tokens per second, older work counting exponentially less. Time without work does not count."""

    __slots__ = ("_seconds", "_tokens", "_window_s")

    def __init__(self, window_s: float) -> None:
        self._window_s = window_s
        self._tokens = 0.0
        self._seconds = 0.0

    @property
    def per_s(self) -> float:
        """0 before the first work."""
        return self._tokens / self._seconds if self._seconds else 0.0

    def add(self, tokens: int, seconds: float) -> None:
        decay = exp(-seconds / self._window_s)
        self._tokens = self._tokens * decay + tokens
        self._seconds = self._seconds * decay + seconds


class RateMeter:
    """Measures steps. A step that prefills and decodes counts in both rates with its whole time.

    So each rate says how fast such tokens went by while there were any, with what else ran beside them.
    """

    def __init__(self, clock: Callable[[], float], *, window_s: float = 5.0) -> None:
        """`clock` gives seconds, ever rising; work counts 1/e once `window_s` seconds of work came after it."""
        self._clock = clock
        self._begun_s = 0.0
        self.prefill = Rate(window_s)
        self.decode = Rate(window_s)

    def begin(self) -> None:
        """Marks the start of a step."""
        self._begun_s = self._clock()

    def end(self, *, prefill_tokens: int, decode_tokens: int) -> None:
        """Counts the step that began last."""
        seconds = self._clock() - self._begun_s
        if prefill_tokens:
            self.prefill.add(prefill_tokens, seconds)
        if decode_tokens:
            self.decode.add(decode_tokens, seconds)
