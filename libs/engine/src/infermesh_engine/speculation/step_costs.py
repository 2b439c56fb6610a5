"""Measures how long steps take by how many rows of logits they compute."""

from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import accumulate
from statistics import median_low

_KEPT = 7
"""Measurements of a size that count: the last ones. Their median is used, so that a hiccup does not count."""
_TRUSTED = 2
"""Measurements before a size counts as measured. The less of two counts: the first may include one-off work of the
device."""
_LEAST_GROWTH = 0.05
"""How much of a row's share of a step's time each further row is taken to add at least, beyond the largest size that
was measured."""
_FIRST_SHARE = 4
"""Until it is known what guesses cost, a step has at most one for so many sequences."""
_LEAP = 3
"""After that, it has at most so many times as many as have been measured."""


class StepCosts:
    """Seconds of a step by rows, as far as measured; others are interpolated or extrapolated.

    Each size is kept by itself: sizes put together would make the guesses that tell them apart look free.
    """

    def __init__(self) -> None:
        self._measured: dict[int, deque[float]] = {}
        self._sizes: list[int] = []
        """Sizes measured well enough, in order."""
        self._seconds: list[float] = []
        """How long a step of each takes."""

    def add(self, rows: int, seconds: float) -> None:
        """Counts a step."""
        kept = self._measured.setdefault(rows, deque(maxlen=_KEPT))
        kept.append(seconds)
        if len(kept) < _TRUSTED:
            return
        at = bisect_left(self._sizes, rows)
        if len(kept) == _TRUSTED:
            self._sizes.insert(at, rows)
            self._seconds.insert(at, 0.0)
        self._seconds[at] = median_low(kept)

    def measured(self, rows: int) -> bool:
        """Whether a step of this size has been measured well enough."""
        return len(self._measured.get(rows, ())) >= _TRUSTED

    def estimate(self, rows: int) -> float:
        """Seconds of a step with so many rows; 1 before anything is known."""
        return _estimate(self._sizes, self._seconds, rows)

    def growing_from(self, least: int) -> Callable[[int], float]:
        """Estimates for steps with at least `least` rows, of which none is quicker than one with fewer.

        Otherwise, among many sizes, those whose few measurements happen to be low would be chosen again and again.
        """
        at = bisect_left(self._sizes, least)
        return partial(_estimate, self._sizes, [*self._seconds[:at], *accumulate(self._seconds[at:], max)])

    def reach(self, rows: int) -> int:
        """Most rows to try where a step has `rows` without guesses: sizes that are new are not tried at one leap."""
        further = max(0, self._sizes[-1] - rows) if self._sizes else 0
        return rows + max(1, rows // _FIRST_SHARE, _LEAP * further)


def _estimate(sizes: list[int], seconds: list[float], rows: int) -> float:
    """Seconds of a step with so many rows, by those of some sizes in order."""
    if not sizes:
        return 1.0 + _LEAST_GROWTH * (rows - 1)
    at = bisect_left(sizes, rows)
    if at == len(sizes):
        growth = _LEAST_GROWTH * seconds[-1] / sizes[-1]
        if at > 1:
            growth = max(growth, (seconds[-1] - seconds[0]) / (sizes[-1] - sizes[0]))
        return seconds[-1] + growth * (rows - sizes[-1])
    if at == 0 or sizes[at] == rows:
        return seconds[at]
    share = (rows - sizes[at - 1]) / (sizes[at] - sizes[at - 1])
    return seconds[at - 1] + share * (seconds[at] - seconds[at - 1])
