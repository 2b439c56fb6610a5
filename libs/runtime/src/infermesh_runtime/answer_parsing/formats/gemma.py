"""Parses Gemma 4's calls: `<|tool_call>call:NAME{key:value,…}<tool_call|>`, with strings between `<|"|>`."""

import json
import re

from infermesh_runtime.answer_parsing.formats.held import CallText, Held
from infermesh_runtime.answer_parsing.json_values import is_json
from infermesh_runtime.answer_parsing.parts import Tools
from infermesh_runtime.answer_parsing.reader import Reader, Wait
from infermesh_runtime.answer_parsing.typed_values import object_text

_QUOTE, _BEGIN, _END = '<|"|>', "<|tool_call>", "<tool_call|>"
_CALL = re.compile(rf"{re.escape(_BEGIN)}\s*call:(?P<name>[^\s{{]+)\s*(?P<inside>\{{.*?)(?:{re.escape(_END)})?\Z", re.S)
_KEY = re.compile(r"[^:{}\[\],]+(?=:)")
_SCALAR = re.compile(r"[^,{}\[\]]+")
_SPACES = re.compile(r"\s*")


def _take(reader: Reader) -> Wait[tuple[str, bool]]:
    taken: list[str] = []
    while mark := (yield from reader.until((_QUOTE, _END), taken.append)):
        taken.append(mark)
        if mark == _END:
            return "".join(taken), True
        taken.append((yield from _take_string(reader)))
    return "".join(taken), False


def _take_string(reader: Reader) -> Wait[str]:
    taken: list[str] = []
    taken.append((yield from reader.until((_QUOTE,), taken.append)))
    return "".join(taken)


def _parse(text: str, _tools: Tools) -> list[CallText] | None:
    found = _CALL.fullmatch(text)
    if not found:
        return None
    notation = _Notation(found["inside"])
    try:
        arguments = notation.value()
    except (ValueError, RecursionError):
        return None
    return None if notation.rest.strip() else [(found["name"], arguments)]


class _Notation:
    """Reads Gemma's object notation into JSON text. Raises ValueError where it is broken."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0

    @property
    def rest(self) -> str:
        """What is not read yet."""
        return self._text[self._at :]

    def value(self) -> str:
        """The JSON text of the value that comes next."""
        if self._skip("{"):
            return self._object()
        if self._skip("["):
            return self._array()
        if self._skip(_QUOTE):
            end = self._text.index(_QUOTE, self._at)
            text, self._at = self._text[self._at : end], end + len(_QUOTE)
            return json.dumps(text, ensure_ascii=False)
        scalar = self._match(_SCALAR).strip()
        return scalar if is_json(scalar) else json.dumps(scalar, ensure_ascii=False)

    def _object(self) -> str:
        members: dict[str, str] = {}
        while not self._skip("}"):
            key = json.loads(self.value()) if self._text.startswith(_QUOTE, self._at) else self._match(_KEY).strip()
            if not self._skip(":"):
                raise ValueError(self._text)
            members[key] = self.value()
            self._skip(",")
        return object_text(members)

    def _array(self) -> str:
        items = []
        while not self._skip("]"):
            items.append(self.value())
            self._skip(",")
        return f"[{', '.join(items)}]"

    def _skip(self, text: str) -> bool:
        self._match(_SPACES)
        found = self._text.startswith(text, self._at)
        self._at += len(text) if found else 0
        return found

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self._text, self._at)
        if not found:
            raise ValueError(self._text)
        self._at = found.end()
        return found.group()


GEMMA = Held(begins=(_BEGIN,), take=_take, parse=_parse)
