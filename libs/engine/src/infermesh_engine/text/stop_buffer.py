"""Owns stop strings: lets text through up to the first of them, across pieces of text. Knows no tokens."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Released:
    """What may be shown after a piece of text came in."""

    text: str
    stop: str | None
    """The stop string that was met; nothing is released after it."""


class StopBuffer:
    """Holds back text that may be the beginning of a stop string, until it is known not to be."""

    __slots__ = ("_held", "_initials", "_longest", "_strings")

    def __init__(self, strings: Sequence[str]) -> None:
        """`strings`: none is empty."""
        self._strings = tuple(strings)
        self._initials = frozenset(string[0] for string in strings)
        self._longest = max(map(len, strings), default=0)
        self._held = ""

    def push(self, piece: str) -> Released:
        """Takes the next piece. The stop string that begins first ends the text; of several that do, the shortest.

        A complete one waits as long as another that began before it may still be completed, so that the outcome does
        not depend on how the text was cut into pieces.
        """
        if not self._held and self._initials.isdisjoint(piece):
            return Released(piece, None)
        text = self._held + piece
        possible = self._begin_of_possible_stop(text)
        released = self._up_to_stop(text)
        if released.stop is not None and len(released.text) <= possible:
            self._held = ""
            return released
        self._held = text[possible:]
        return Released(text[:possible], None)

    def flush(self) -> Released:
        """What was held back, now that no more text comes."""
        held, self._held = self._held, ""
        return self._up_to_stop(held)

    def _up_to_stop(self, text: str) -> Released:
        matches = [(text.find(string), len(string), string) for string in self._strings if string in text]
        if not matches:
            return Released(text, None)
        begin, _, stop = min(matches)
        return Released(text[:begin], stop)

    def _begin_of_possible_stop(self, text: str) -> int:
        """Where the longest end of `text` begins that begins a stop string; len(text) when none does."""
        for begin in range(max(0, len(text) - self._longest + 1), len(text)):
            if text[begin] in self._initials and any(string.startswith(text[begin:]) for string in self._strings):
                return begin
        return len(text)
