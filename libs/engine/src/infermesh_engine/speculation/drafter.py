"""Guesses the next tokens of one sequence: what followed the same tokens earlier in its prompt or its output."""

from collections.abc import Iterable

from infermesh_engine.speculation.acceptance import AcceptanceRates
from infermesh_engine.speculation.allocation import LEAST_CHANCE
from infermesh_engine.speculation.prompt_index import LONG, SHORT, PromptIndex, long_key, short_key

_PREDICTED_MATCH = 9
"""As how long a match the beginning of a predicted output counts."""


class Drafter:
    """Follows the output and the place in the text where the same tokens occurred last.

    Adding a token takes constant time: two look-ups by the last two and four tokens, and only where the place that was
    followed so far did not go on with that token.
    """

    __slots__ = ("_index", "_keys", "_matched", "_next", "_places_long", "_places_short", "_rates", "_text")

    def __init__(self, index: PromptIndex, rates: AcceptanceRates) -> None:
        """`index`: of the sequence's prompt, at whose end the output begins."""
        self._index = index
        self._rates = rates
        self._text = index.text.copy()
        """The index's text, and after it the output."""
        self._keys = index.keys
        self._places_short: dict[int, int] = {}
        """Of the output; these go before the index's."""
        self._places_long: dict[int, int] = {}
        self._next: int | None = None
        """Where in the text the next token is expected."""
        self._matched = 0
        """How many tokens before it are the same as the output's last."""
        self.push(index.last)
        if index.predicted:
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
        text, place, predicted = self._text, self._next, self._index.predicted
        if place is not None:
            right = text[place] == token
            self._rates.add(self._matched, right)
            place = place + 1 if right and place + 1 != predicted else None
        keys = self._keys
        short = short_key(text[-1] if text else 0, token)
        long = long_key(keys[0], short) if len(keys) == SHORT else None
        if place is not None:
            self._matched += 1
        else:
            place, self._matched = self._find(short, long)
            if place == predicted:
                place = None  # the prediction ends there
        text.append(token)
        self._next = place
        self._places_short[short] = len(text)
        if long is not None:
            self._places_long[long] = len(text)
        self._keys = (keys[-1], short) if keys else (short,)

    def _find(self, short: int, long: int | None) -> tuple[int | None, int]:
        """What followed the last tokens, whose keys these are, the last time, and how many of them were the same."""
        index = self._index
        if long is not None:
            place = self._places_long.get(long) or index.places_long.get(long)
            if place is not None:
                return place, LONG
        return self._places_short.get(short) or index.places_short.get(short), SHORT

    def draft(self, most: int) -> list[int]:
        """Up to `most` guesses, in order. Where the text ends, it is taken to repeat."""
        place, text = self._next, self._text
        if place is None or most < 1:
            return []
        end = self._index.predicted if place < self._index.predicted else len(text)
        found = text[place : min(end, place + most)]
        if end == len(text):
            period = len(found)
            while len(found) < most:
                found.append(found[len(found) - period])
        return found

    def from_prediction(self, count: int) -> int:
        """How many of the first `count` guesses are the predicted output's."""
        place = self._next
        return max(0, min(count, self._index.predicted - place)) if place is not None else 0

    def chances(self, count: int) -> list[float]:
        """Of each of the next `count` guesses: how likely it and all before it are right; ends where that is not."""
        chances, chance = [], 1.0
        for ahead in range(count):
            chance *= self._rates.rate(self._matched + ahead)
            if chance < LEAST_CHANCE:
                break
            chances.append(chance)
        return chances
