"""Measures how fast a queue empties, while something waits in it. Pure: it is told the time."""

from collections import deque

_WINDOW = 64
_MIN_SAMPLES = 4
_DEFAULT_RETRY_S = 1.0
_LONGEST_RETRY_S = 120.0


class DrainRate:
    """Requests served per second, over the last _WINDOW of them since the queue began to fill."""

    def __init__(self) -> None:
        self._served_s: deque[float] = deque(maxlen=_WINDOW + 1)
        self._last_per_s = 0.0

    def begin(self, now_s: float) -> None:
        """The queue was empty, and now something waits."""
        self._served_s.clear()
        self._served_s.append(now_s)

    def note(self, now_s: float) -> None:
        """Something that waited was served."""
        self._served_s.append(now_s)
        self._last_per_s = self.per_s(now_s) or self._last_per_s

    def per_s(self, now_s: float) -> float:
        """Requests per second; 0 if too few were served to say. Falls while nothing is served."""
        samples = len(self._served_s) - 1
        if samples < _MIN_SAMPLES:
            return 0.0
        return samples / max(1e-6, now_s - self._served_s[0])

    def time_for(self, requests: int, now_s: float) -> float | None:
        """Seconds until that many are served; None if the rate is not known."""
        rate = self.per_s(now_s)
        return requests / rate if rate else None

    def retry_after_s(self, requests: int, now_s: float) -> float:
        """When to retry, for a client refused while so many wait: in [1, 120] s, a guess if nothing was measured."""
        rate = self.per_s(now_s) or self._last_per_s
        return min(_LONGEST_RETRY_S, max(_DEFAULT_RETRY_S, requests / rate if rate else 0.0))
