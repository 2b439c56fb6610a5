"""Parses calls of which a header names the tool and JSON arguments follow (DeepSeek up to V3.1, Kimi K2, Mistral)."""

import re
from dataclasses import dataclass

from infermesh_runtime.answer_parsing.formats.call_objects import read_calls
from infermesh_runtime.answer_parsing.json_values import read_value
from infermesh_runtime.answer_parsing.reader import Wait
from infermesh_runtime.answer_parsing.turn import Turn


@dataclass(frozen=True, slots=True)
class Headed:
    """The marks of a family that writes a section of calls."""

    section: str
    """Begins the section."""
    section_end: str
    call: str
    """Begins a call: its header follows."""
    separator: str
    """Stands between the header and the arguments."""
    name: re.Pattern[str]
    """Finds the tool's name, as its group 1, in a header."""

    @property
    def marks(self) -> tuple[str, ...]:
        """The marks that are read."""
        return (self.section, self.section_end, self.call, self.separator)

    def body(self, turn: Turn) -> Wait[None]:
        """Parses an answer."""
        while mark := (yield from turn.reader.until((self.section, self.call), turn.answer.text)):
            yield from self._read_section(turn, mark)

    def _read_section(self, turn: Turn, mark: str) -> Wait[None]:
        """Takes what follows a mark, up to the end of the section. What stands between calls is dropped."""
        while mark not in ("", self.section_end):
            header: list[str] = []
            before = mark
            mark = yield from turn.reader.until((self.call, self.section_end, self.separator), header.append)
            if before == self.call and mark == self.separator:
                yield from self._read_call(turn, "".join(header))

    def _read_call(self, turn: Turn, header: str) -> Wait[None]:
        if header.strip() == "function":  # DeepSeek V3 and R1 write a type, and the name and a fence after it
            line: list[str] = []
            yield from turn.reader.until(("\n",), line.append)
            header = "".join(line)
            yield from turn.reader.literal("```json", "```")
        yield from turn.reader.spaces()
        named = self.name.search(header.strip())
        if named:
            yield from read_arguments(turn, named[1])


def read_arguments(turn: Turn, name: str) -> Wait[bool]:
    """Takes an object and streams it as the arguments of a call. False when there is none: then there is no call."""
    if (yield from turn.reader.character()) != "{":
        return False
    turn.answer.begin_call(name)
    yield from read_value(turn.reader, turn.answer.arguments)
    turn.answer.end_call()
    return True


_BEGIN, _ARGUMENTS, _ID = "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"


def read_mistral(turn: Turn) -> Wait[None]:
    """Parses an answer of a Mistral model: an array of objects, or since version 11 a name and arguments."""
    reader = turn.reader
    while (yield from reader.until((_BEGIN,), turn.answer.text)):
        reader.start_record()
        yield from reader.spaces()
        if (yield from reader.character()) in ("[", "{"):
            found = yield from read_calls(turn, only_known=False)
        else:
            found = yield from _read_named(turn)
        taken = reader.stop_record()
        if not found:
            turn.give_back(taken, marked=True)  # the mark is a control token, which is never text


def _read_named(turn: Turn) -> Wait[bool]:
    reader = turn.reader
    name: list[str] = []
    mark = yield from reader.until((_ARGUMENTS, _ID, "{", "\n"), name.append)
    if mark == _ID:
        mark = yield from reader.until((_ARGUMENTS, "{"), lambda _call_id: None)
    if mark == "{":
        reader.put_back(mark)
    yield from reader.spaces()
    called = "".join(name).strip()
    return (
        bool(called) and " " not in called and mark in (_ARGUMENTS, "{") and (yield from read_arguments(turn, called))
    )
