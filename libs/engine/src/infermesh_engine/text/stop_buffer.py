"""Finds stop strings in text that arrives in pieces, and lets the text before them through."""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Released:
    """What may be shown after a piece of text arrived."""

    text: str
    stop: str | None
    """The stop string that was found; nothing is released after it."""


class StopBuffer:
    """Holds back text that may be the beginning of a stop string until it turns out not to be."""

    __slots__ = ("_held", "_initials", "_keep_stop", "_longest", "_strings")

    def __init__(self, strings: Sequence[str], *, keep_stop: bool = False) -> None:
        """`strings`: none is empty. `keep_stop`: whether the stop string is released too."""
        self._keep_stop = keep_stop
        self._strings = tuple(strings)
        self._initials = frozenset(string[0] for string in strings)
        self._longest = max(map(len, strings), default=0)
        self._held = ""

    def push(self, piece: str) -> Released:
        """Takes the next piece. The stop string that begins first ends the text; if several begin there, the shortest.

        A complete stop string waits while one that began before it may still be completed, so that the result does not
        depend on how the text was cut into pieces.
        """
        if not self._held and self._initials.isdisjoint(piece):
            return Released(piece, None)
        text = self._held + piece
        possible = self._begin_of_possible_stop(text)
        released = self._up_to_stop(text)
        if released.stop is not None and len(released.text) <= possible:
            self._held = ""
            return self._kept(released)
        self._held = text[possible:]
        return Released(text[:possible], None)

    def flush(self) -> Released:
        """The text held back, now that no more comes."""
        held, self._held = self._held, ""
        return self._kept(self._up_to_stop(held))

    def _kept(self, released: Released) -> Released:
        """What is released at the end: the stop string too, if it is kept."""
        if released.stop is None or not self._keep_stop:
            return released
        return Released(released.text + released.stop, released.stop)

    def _up_to_stop(self, text: str) -> Released:
        matches = [(text.find(string), len(string), string) for string in self._strings if string in text]
        if not matches:
            return Released(text, None)
        begin, _, stop = min(matches)
        return Released(text[:begin], stop)

    def _begin_of_possible_stop(self, text: str) -> int:
        """Where the longest suffix of `text` that may begin a stop string begins; len(text) if there is none."""
        for begin in range(max(0, len(text) - self._longest + 1), len(text)):
            if text[begin] in self._initials and any(string.startswith(text[begin:]) for string in self._strings):
                return begin
        return len(text)
