"""Estimates how likely a guessed token is right, from how long a match the guess is based on."""

_EDGES = (3, 4, 6, 9, 17)
_PRIOR = (0.25, 0.4, 0.55, 0.7, 0.8, 0.9)
"""For matches of 2, 3, 4–5, 6–8, 9–16 and more tokens, until enough guesses were compared."""
_PRIOR_WEIGHT = 8.0
_OWN_WEIGHT = 4.0
"""How many guesses of a sequence weigh as much as what is known from all others."""
_MOST_SHARED = 64.0
"""Few, so that the rates of one kind of answers do not outlive them for long."""
_MOST_OWN = 24.0


def match_class(matched: int) -> int:
    """The class of matches with this many tokens."""
    number = 0
    while number < len(_EDGES) and matched >= _EDGES[number]:
        number += 1
    return number


_CLASS = tuple(match_class(matched) for matched in range(_EDGES[-1] + 1))


class _Counts:
    """Guesses compared and guesses that were right, by class. Old ones count less: both are halved at a limit."""

    __slots__ = ("_most", "compared", "right")

    def __init__(self, most: float) -> None:
        self._most = most
        self.compared = [0.0] * len(_PRIOR)
        self.right = [0.0] * len(_PRIOR)

    def add(self, number: int, right: bool) -> None:
        if self.compared[number] >= self._most:
            self.compared[number] /= 2
            self.right[number] /= 2
        self.compared[number] += 1
        self.right[number] += right


class SharedRates:
    """How often guesses were right over all sequences of an engine, by class of match."""

    __slots__ = ("_counts",)

    def __init__(self) -> None:
        self._counts = _Counts(_MOST_SHARED)

    def add(self, number: int, right: bool) -> None:
        self._counts.add(number, right)

    def rate(self, number: int) -> float:
        counts = self._counts
        return (counts.right[number] + _PRIOR_WEIGHT * _PRIOR[number]) / (counts.compared[number] + _PRIOR_WEIGHT)


class AcceptanceRates:
    """How often guesses for one sequence are right; starts from what is known from all."""

    __slots__ = ("_own", "_shared")

    def __init__(self, shared: SharedRates) -> None:
        self._own = _Counts(_MOST_OWN)
        self._shared = shared

    def add(self, matched: int, right: bool) -> None:
        """Counts a guess that was compared with the token that came."""
        number = _CLASS[min(matched, _EDGES[-1])]
        self._own.add(number, right)
        self._shared.add(number, right)

    def rate(self, matched: int) -> float:
        """The estimate for a guess based on a match of so many tokens, in (0, 1)."""
        number, own = _CLASS[min(matched, _EDGES[-1])], self._own
        return (own.right[number] + _OWN_WEIGHT * self._shared.rate(number)) / (own.compared[number] + _OWN_WEIGHT)
