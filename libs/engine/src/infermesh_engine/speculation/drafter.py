"""Guesses the next tokens of one sequence: what followed the same tokens earlier in its prompt or its output.

A guess is only ever checked, so a collision of two keys costs a wrong guess and nothing else.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from infermesh_engine.speculation.acceptance import AcceptanceRates
from infermesh_engine.speculation.allocation import LEAST_CHANCE

SHORT = 2
"""Fewest tokens that must be the same."""
_LONG = 2 * SHORT
_SHORT_FACTOR = 0x9E3779B97F4A7C15
_LONG_FACTOR = 0xC2B2AE3D27D4EB4F
_MASK = (1 << 64) - 1
_PREDICTED_MATCH = 9
"""As how long a match the beginning of a predicted output counts."""
MOST_INDEXED = 1 << 15
"""Tokens of a prompt that are looked through: its last ones."""


class Drafter:
    """Follows the output and the place in the text where the same tokens occurred last.

    Adding a token takes constant time: two look-ups by the last two and four tokens, and only where the place that was
    followed so far did not go on with that token.
    """

    __slots__ = ("_keys", "_matched", "_next", "_places_long", "_places_short", "_predicted", "_rates", "_text")

    def __init__(self, tokens: NDArray[np.int64], predicted: Sequence[int], rates: AcceptanceRates) -> None:
        """`tokens`: prompt and output so far. `predicted`: what the client expects the output to be; empty: nothing."""
        prompt = tokens[-MOST_INDEXED:]
        self._predicted = len(predicted)
        self._rates = rates
        whole = np.concatenate([np.array(predicted, dtype=np.int64), prompt])
        before = whole[:-1]
        self._text: list[int] = before.tolist()
        short, long = _keys(before)
        self._keys: tuple[int, ...] = tuple(short[-SHORT:].tolist())
        """Keys of the last two pairs of tokens, each a token apart; fewer at the beginning of the text."""
        self._places_short = _places(short, SHORT, self._predicted)
        self._places_long = _places(long, _LONG, self._predicted)
        self._next: int | None = None
        """Where in the text the next token is expected."""
        self._matched = 0
        """How many tokens before it are the same as the output's last."""
        self.push(int(whole[-1]))
        if predicted:
            self._next, self._matched = 0, _PREDICTED_MATCH

    @property
    def has_guess(self) -> bool:
        return self._next is not None

    def extend(self, tokens: Iterable[int]) -> None:
        """Adds tokens of the output."""
        for token in tokens:
            self.push(token)

    def push(self, token: int) -> None:
        """Adds a token of the output."""
        text, place = self._text, self._next
        if place is not None:
            right = text[place] == token
            self._rates.add(self._matched, right)
            place = place + 1 if right and place + 1 != self._predicted else None
        key = ((text[-1] if text else 0) * _SHORT_FACTOR + token) & _MASK
        keys = self._keys
        long_key = (keys[0] * _LONG_FACTOR + key) & _MASK if len(keys) == SHORT else None
        if place is not None:
            self._matched += 1
        else:
            place = self._places_long.get(long_key) if long_key is not None else None
            self._matched = _LONG
            if place is None:
                place, self._matched = self._places_short.get(key), SHORT
            if place == self._predicted:
                place = None  # the prediction ends there
        text.append(token)
        self._next = place
        self._places_short[key] = len(text)
        if long_key is not None:
            self._places_long[long_key] = len(text)
        self._keys = (keys[-1], key) if keys else (key,)

    def draft(self, most: int) -> list[int]:
        """Up to `most` guesses, in order. Where the text ends, it is taken to repeat."""
        place, text = self._next, self._text
        if place is None or most < 1:
            return []
        end = self._predicted if place < self._predicted else len(text)
        found = text[place : min(end, place + most)]
        if end == len(text):
            period = len(found)
            while len(found) < most:
                found.append(found[len(found) - period])
        return found

    def from_prediction(self, count: int) -> int:
        """How many of the first `count` guesses are the predicted output's."""
        place = self._next
        return max(0, min(count, self._predicted - place)) if place is not None else 0

    def chances(self, count: int) -> list[float]:
        """Of each of the next `count` guesses: how likely it and all before it are right; ends where that is not."""
        chances, chance = [], 1.0
        for ahead in range(count):
            chance *= self._rates.rate(self._matched + ahead)
            if chance < LEAST_CHANCE:
                break
            chances.append(chance)
        return chances


def _keys(text: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The key of each run of SHORT tokens, and of each run of _LONG, in the order of the runs' ends."""
    tokens = text.astype(np.uint64)
    short = tokens[:-1] * np.uint64(_SHORT_FACTOR) + tokens[1:]
    return short, short[:-SHORT] * np.uint64(_LONG_FACTOR) + short[SHORT:]


def _places(keys: NDArray[np.uint64], size: int, predicted: int) -> dict[int, int]:
    """Where each key's run ended last; the predicted output comes before the text in `keys`, but is preferred."""
    listed: list[int] = keys.tolist()
    places = dict(zip(listed, range(size, size + len(listed)), strict=True))
    inside = max(0, predicted - size)  # not the run at its very end, which nothing follows
    places.update(zip(listed[:inside], range(size, size + inside), strict=True))
    return places
