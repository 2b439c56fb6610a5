"""Owns how fast a queue moves, measured while something waits in it. Pure: is told the time; knows no requests."""

from collections import deque

_WINDOW = 64
_MIN_SAMPLES = 4
_DEFAULT_RETRY_S = 1.0
_LONGEST_RETRY_S = 120.0


class DrainRate:
    """Requests served a second, over the last _WINDOW of them since the queue began to fill."""

    def __init__(self) -> None:
        self._served_s: deque[float] = deque(maxlen=_WINDOW + 1)
        self._last_per_s = 0.0

    def begin(self, now_s: float) -> None:
        """Something waits, and nothing did."""
        self._served_s.clear()
        self._served_s.append(now_s)

    def note(self, now_s: float) -> None:
        """Something that waited is served."""
        self._served_s.append(now_s)
        self._last_per_s = self.per_s(now_s) or self._last_per_s

    def per_s(self, now_s: float) -> float:
        """Requests a second; 0 when too few were served to say. Falls while nothing is served."""
        samples = len(self._served_s) - 1
        if samples < _MIN_SAMPLES:
            return 0.0
        return samples / max(1e-6, now_s - self._served_s[0])

    def time_for(self, requests: int, now_s: float) -> float | None:
        """Seconds until that many are served; None when it cannot be said."""
        rate = self.per_s(now_s)
        return requests / rate if rate else None

    def retry_after_s(self, requests: int, now_s: float) -> float:
        """What to tell a client that is refused while so many wait: a guess where nothing is measured, in [1, 120]."""
        rate = self.per_s(now_s) or self._last_per_s
        return min(_LONGEST_RETRY_S, max(_DEFAULT_RETRY_S, requests / rate if rate else 0.0))
