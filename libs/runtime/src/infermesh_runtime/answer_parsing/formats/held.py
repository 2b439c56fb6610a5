"""Parses formats of which a call is read as a whole: its end is waited for, and nothing of it is sent before."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from infermesh_runtime.answer_parsing.parts import Tools
from infermesh_runtime.answer_parsing.reader import Reader, Wait
from infermesh_runtime.answer_parsing.turn import Turn

CallText = tuple[str, str]
"""A tool's name, and the JSON text of its arguments."""


@dataclass(frozen=True, slots=True)
class Held:
    """Where a family's calls begin and end, and what reads one.

    Values are not streamed because their types, and their ends, are known only from what follows.
    """

    begins: tuple[str, ...]
    """Marks with which a call begins."""
    take: Callable[[Reader], Wait[tuple[str, bool]]]
    """Takes the text of a call after its mark. Whether its end, which is included, came: if not, it is all text."""
    parse: Callable[[str, Tools], list[CallText] | None]
    """Reads the text of a call, with its mark; None when it is none. A call that is cut off may lack its end."""
    wrappers: tuple[str, ...] = ()
    """Marks around calls that mean nothing by themselves."""
    then: tuple[str, ...] = ()
    """What must follow the mark, after white space, for a call to begin at all."""

    def body(self, turn: Turn) -> Wait[None]:
        """Parses an answer."""
        reader, marks = turn.reader, (*self.begins, *self.wrappers)
        while mark := (yield from reader.until(marks, turn.answer.text)):
            while mark:  # white space between marks belongs to nothing
                if mark in self.begins:
                    yield from self._read_call(turn, mark)
                spaces = yield from reader.spaces()
                mark = yield from reader.literal(*marks)
            turn.answer.text(spaces)

    def _read_call(self, turn: Turn, mark: str) -> Wait[None]:
        text = mark
        if self.then and mark not in self.then:
            text += yield from turn.reader.spaces()
            follows = yield from turn.reader.literal(*self.then)
            text += follows
            if not follows:
                turn.give_back(text, marked=True)
                return
        rest, whole = yield from self.take(turn.reader)
        # The model may leave out the end of a call with which it ends its answer; a limit may not
        calls = None if turn.reader.truncated and not whole else self.parse(text + rest, turn.tools)
        for name, arguments in calls or ():
            turn.answer.call(name, arguments)
        if calls is None:
            turn.give_back(text + rest, marked=True)


def up_to(pattern: re.Pattern[str]) -> Callable[[Reader], Wait[tuple[str, bool]]]:
    """Takes text up to the end of a match, or all of it."""

    def take(reader: Reader) -> Wait[tuple[str, bool]]:
        found = yield from reader.find(pattern)
        return reader.take(found.end() if found else len(reader.text)), bool(found)

    return take
