"""Measures how long steps take by how many rows of logits they compute."""

from collections import deque
from statistics import median

_KEPT = 7
"""Measurements of a size that count: the last ones. Their median is used, so that a hiccup does not count."""
_TRUSTED = 3
"""Measurements before a size counts as measured: the first one may include one-off work of the device."""
_LEAST_GROWTH = 0.05
"""How much of a row's share of a step's time each further row is taken to add at least, beyond the largest size that
was measured."""
_EXACT_UP_TO = 16
_STEP = 8


def _bucket(rows: int) -> int:
    return rows if rows <= _EXACT_UP_TO else -(-rows // _STEP) * _STEP


class StepCosts:
    """Seconds of a step by rows, as far as measured; others are interpolated or extrapolated."""

    def __init__(self) -> None:
        self._seconds: dict[int, deque[float]] = {}
        self._known: list[tuple[int, float]] = []

    def add(self, rows: int, seconds: float) -> None:
        """Counts a step."""
        bucket = _bucket(rows)
        kept = self._seconds.setdefault(bucket, deque(maxlen=_KEPT))
        kept.append(seconds)
        if len(kept) >= _TRUSTED:
            self._known = sorted(
                [(b, value) for b, value in self._known if b != bucket] + [(bucket, median(kept))],
            )

    def measured(self, rows: int) -> bool:
        """Whether a step of this size has been measured well enough."""
        return len(self._seconds.get(_bucket(rows), ())) >= _TRUSTED

    def estimate(self, rows: int) -> float:
        """Seconds of a step with so many rows; 1 before anything is known."""
        below: tuple[int, float] | None = None
        for size, seconds in self._known:
            if size >= rows:
                if below is None or size == rows:
                    return seconds
                share = (rows - below[0]) / (size - below[0])
                return below[1] + share * (seconds - below[1])
            below = size, seconds
        size, seconds = below or (1, 1.0)
        growth = _LEAST_GROWTH * seconds / size
        if len(self._known) > 1:
            first, fewest_s = self._known[0]
            growth = max(growth, (seconds - fewest_s) / (size - first))
        return seconds + growth * (rows - size)

    def reach(self, rows: int) -> int:
        """Most rows to try where a step has `rows` without guesses: sizes that are new are not tried at one leap."""
        largest = self._known[-1][0] if self._known else 0
        return 2 * max(rows, largest)
