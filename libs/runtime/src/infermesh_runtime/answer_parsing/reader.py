"""What a parser pulls text from: a parser is a generator that yields whenever it must wait for more text."""

import re
from collections.abc import Callable, Generator, Iterable
from functools import cache
from typing import TypeVar

_T = TypeVar("_T")
Wait = Generator[None, None, _T]
"""A step of a parser that may have to wait for text, and then returns a value."""
Sink = Callable[[str], None]


class Reader:
    """The text that is not parsed yet."""

    def __init__(self) -> None:
        self.text = ""
        self.ended = False
        self.truncated = False
        self._record: list[str] | None = None

    def add(self, text: str) -> None:
        """More text came."""
        self.text += text

    def take(self, size: int) -> str:
        """Removes the next characters, which must be there."""
        taken, self.text = self.text[:size], self.text[size:]
        if self._record is not None:
            self._record.append(taken)
        return taken

    def put_back(self, text: str) -> None:
        """Makes text that was taken the next one again."""
        self.text = text + self.text
        if self._record is not None:
            self._record = ["".join(self._record).removesuffix(text)]

    def start_record(self) -> None:
        """From here on what is taken is kept, to be given back if it is no call after all."""
        self._record = []

    def stop_record(self) -> str:
        """What was taken since `start_record`."""
        recorded, self._record = "".join(self._record or ()), None
        return recorded

    def until(self, marks: tuple[str, ...], sink: Sink) -> Wait[str]:
        """Passes text to `sink` up to the first of the marks, and takes that one. Returns "" when the text ends first.

        No mark may begin with another one.
        """
        finder = _finder(marks)
        while True:
            found = finder.whole.search(self.text)
            if found:
                self._pass(found.start(), sink)
                return self.take(found.end() - found.start())
            if self.ended:
                self._pass(len(self.text), sink)
                return ""
            self._pass(len(self.text) - finder.begun(self.text), sink)
            yield

    def character(self) -> Wait[str]:
        """The next character, which is not taken; "" when the text has ended."""
        while not self.text and not self.ended:
            yield
        return self.text[:1]

    def spaces(self) -> Wait[str]:
        """Takes the white space that comes next."""
        taken = ""
        while True:
            size = len(self.text) - len(self.text.lstrip())
            taken += self.take(size)
            if self.text or self.ended:
                return taken
            yield

    def literal(self, *options: str) -> Wait[str]:
        """Takes the option that comes next, the longest one. Returns "" when none does."""
        while True:
            text = self.text
            if not self.ended and any(len(text) < len(option) and option.startswith(text) for option in options):
                yield
                continue
            size = max((len(option) for option in options if self.text.startswith(option)), default=0)
            return self.take(size)

    def find(self, pattern: re.Pattern[str], reach: int = 64) -> Wait[re.Match[str] | None]:
        """Waits until the pattern is in the text. Nothing is taken. None when the text ends without it.

        A match must not need more than `reach` characters that were there before its last one came.
        """
        searched = 0
        while True:
            found = pattern.search(self.text, searched)
            if found or self.ended:
                return found
            searched = max(0, len(self.text) - reach)
            yield

    def _pass(self, size: int, sink: Sink) -> None:
        if size > 0:
            sink(self.take(size))


class _Finder:
    """Finds marks in text, and the beginning of one at its end."""

    def __init__(self, marks: Iterable[str]) -> None:
        longest_first = sorted(marks, key=len, reverse=True)
        self.whole = re.compile("|".join(map(re.escape, longest_first)))
        beginnings = {mark[:size] for mark in longest_first for size in range(1, len(mark))}
        self._begun = re.compile(f"(?:{'|'.join(map(re.escape, sorted(beginnings, key=len, reverse=True)))})\\Z")
        self._firsts = frozenset(mark[0] for mark in longest_first)
        self._reach = max(map(len, longest_first)) - 1
        self._can_begin = bool(beginnings)

    def begun(self, text: str) -> int:
        """The length of the beginning of a mark with which the text ends; 0 when it ends with none."""
        tail = text[-self._reach :] if self._reach else ""
        if not self._can_begin or self._firsts.isdisjoint(tail):
            return 0
        found = self._begun.search(tail)
        return len(found.group()) if found else 0


@cache
def _finder(marks: tuple[str, ...]) -> _Finder:
    return _Finder(marks)
