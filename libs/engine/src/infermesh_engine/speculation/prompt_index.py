"""Where the tokens of a prompt and of a predicted output occurred: built once, read by all choices of a request.

A guess is only ever checked, so a collision of two keys costs a wrong guess and nothing else.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

SHORT = 2
"""Fewest tokens that must be the same."""
LONG = 2 * SHORT
_SHORT_FACTOR = 0x9E3779B97F4A7C15
_LONG_FACTOR = 0xC2B2AE3D27D4EB4F
_MASK = (1 << 64) - 1
MOST_INDEXED = 1 << 15
"""Tokens of a prompt that are looked through: its last ones; and of a predicted output: its first ones."""


class PromptIndex:
    """The text that guesses come from, before the output. Nothing changes it once it is made."""

    __slots__ = ("keys", "last", "places_long", "places_short", "predicted", "text")

    def __init__(self, prompt: NDArray[np.int64], predicted: Sequence[int]) -> None:
        """`prompt` has at least one token. `predicted`: what the client expects the output to be; empty: nothing."""
        expected = np.array(predicted[:MOST_INDEXED], dtype=np.int64)
        whole = np.concatenate([expected, prompt[-MOST_INDEXED:]])
        before = whole[:-1]
        self.predicted = len(expected)
        """How many tokens at the beginning of the text are the predicted output."""
        self.text: list[int] = before.tolist()
        """The predicted output, and the prompt without its last token."""
        self.last = int(whole[-1])
        short, long = _keys(before)
        self.keys: tuple[int, ...] = tuple(short[-SHORT:].tolist())
        """Keys of the last two pairs of tokens, each a token apart; fewer at the beginning of the text."""
        self.places_short = _places(short, SHORT, self.predicted)
        """Where the tokens with this key ended last, by the keys of SHORT tokens."""
        self.places_long = _places(long, LONG, self.predicted)


class SharedIndex:
    """The place for the index of a request's prompt, which the first of its choices that needs it fills."""

    __slots__ = ("made",)

    def __init__(self) -> None:
        self.made: PromptIndex | None = None


def short_key(first: int, second: int) -> int:
    """The key of two tokens."""
    return (first * _SHORT_FACTOR + second) & _MASK


def long_key(first: int, second: int) -> int:
    """The key of four tokens, by those of the first and the second two."""
    return (first * _LONG_FACTOR + second) & _MASK


def _keys(text: NDArray[np.int64]) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The key of each run of SHORT tokens, and of each run of LONG, in the order of the runs' ends."""
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
