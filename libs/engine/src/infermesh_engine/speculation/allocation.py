"""Decides how many guesses of which sequences are worth a step's time."""

from collections.abc import Callable, Sequence

_LEAST_GAIN = 1.03
"""By how much a step must be expected to give more tokens a second than one without guesses."""
LEAST_CHANCE = 0.05
"""Guesses that are less likely right than this are not considered."""


def may_pay(sequences: int, cost: Callable[[int], float], most: int) -> bool:
    """Whether up to `most` guesses could be worth it if all were right. Large batches need no closer look then."""
    plain = _LEAST_GAIN * sequences / cost(sequences)
    guesses = 1
    while guesses <= most:
        if (sequences + guesses) / cost(sequences + guesses) > plain:
            return True
        guesses *= 2
    return False


def allocate(chances: Sequence[Sequence[float]], sequences: int, cost: Callable[[int], float], most: int) -> list[int]:
    """How many guesses of each to check, so that the tokens expected per second are the most.

    `chances`: for each sequence that has guesses, how likely each one and all before it are right, so never growing;
    `sequences`: all in the step, each of which gets a token anyway; `cost`: seconds of a step by its rows; `most`:
    guesses in the step. None are checked unless that is clearly better.
    """
    ordered = sorted(
        ((-chance, at, index) for index, each in enumerate(chances) for at, chance in enumerate(each)),
    )
    expected = float(sequences)
    best, taken = _LEAST_GAIN * sequences / cost(sequences), 0
    for number, (chance, _, _) in enumerate(ordered[:most], 1):
        if -chance < LEAST_CHANCE:
            break
        expected -= chance
        rate = expected / cost(sequences + number)
        if rate > best:
            best, taken = rate, number
    counts = [0] * len(chances)
    for _, _, index in ordered[:taken]:
        counts[index] += 1
    return counts
