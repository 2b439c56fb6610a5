"""Measures how much longer a model is busy for one more request, whatever runs in parallel. Pure: takes the time."""

HALF_LIFE_S = 10.0
"""Busy time after which an older measurement counts half."""


class WorkMeter:
    """Busy time for each finished request. A model is busy while at least one batch runs."""

    def __init__(self) -> None:
        self._running = 0
        self._since_s = 0.0
        self._busy_s = 0.0
        self._requests = 0.0

    @property
    def request_s(self) -> float:
        """Seconds of busy time for one request, over the last requests; 0 before one has finished."""
        return self._busy_s / self._requests if self._requests else 0.0

    def began(self, now_s: float) -> None:
        """A batch begins to run."""
        if not self._running:
            self._since_s = now_s
        self._running += 1

    def ended(self, requests: int, now_s: float) -> None:
        """A batch of so many requests has ended."""
        busy_s, self._since_s = max(0.0, now_s - self._since_s), now_s
        self._running -= 1
        kept = 0.5 ** (busy_s / HALF_LIFE_S)
        self._busy_s = self._busy_s * kept + busy_s
        self._requests = self._requests * kept + requests
