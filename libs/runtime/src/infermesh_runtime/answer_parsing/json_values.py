"""Reads JSON values as they stream: knows where one ends, whatever its strings contain."""

import json
import re

from infermesh_runtime.answer_parsing.reader import Reader, Sink, Wait

_STRUCTURE = re.compile(r'["{}\[\]]')
_IN_STRING = re.compile(r'["\\\x00-\x1f]')
_SCALAR_END = re.compile(r"[,}\]\s]")
_CLOSER = {"{": "}", "[": "]"}


def read_value(reader: Reader, sink: Sink) -> Wait[bool]:
    """Passes the JSON text of the value that comes next. False when it is broken, or the text ends inside it.

    Control characters in strings are escaped, which models forget.
    """
    first = yield from reader.character()
    if first in ("{", "["):
        return (yield from _read_nested(reader, sink))
    if first == '"':
        return (yield from _read_string(reader, sink))
    return (yield from _read_scalar(reader, sink))


def read_text(reader: Reader) -> Wait[str | None]:
    """The string that comes next, decoded; None when there is none, or it is broken."""
    if (yield from reader.character()) != '"':
        return None
    pieces: list[str] = []
    if not (yield from _read_string(reader, pieces.append)):
        return None
    return decoded_string("".join(pieces))


def decoded_string(text: str) -> str | None:
    """The string that a JSON text stands for; None when it stands for none."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, str) else None


def is_json(text: str) -> bool:
    """Whether it is strict JSON, so no NaN either."""
    try:
        json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return False
    return True


def is_object(text: str) -> bool:
    """Whether it is the JSON text of an object."""
    return text.lstrip().startswith("{") and is_json(text)


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _read_nested(reader: Reader, sink: Sink) -> Wait[bool]:
    closers: list[str] = []
    while True:
        found = _STRUCTURE.search(reader.text)
        if not found:
            if reader.text:
                sink(reader.take(len(reader.text)))
            if reader.ended:
                return False
            yield
            continue
        if found.start():
            sink(reader.take(found.start()))
        mark = found.group()
        if mark == '"':
            if not (yield from _read_string(reader, sink)):
                return False
        elif mark in _CLOSER:
            closers.append(_CLOSER[mark])
            sink(reader.take(1))
        elif closers.pop() != mark:
            return False
        else:
            sink(reader.take(1))
            if not closers:
                return True


def _read_string(reader: Reader, sink: Sink) -> Wait[bool]:
    sink(reader.take(1))
    while True:
        found = _IN_STRING.search(reader.text)
        end = found.start() if found else len(reader.text)
        if end:
            sink(reader.take(end))
        if found and found.group() == '"':
            sink(reader.take(1))
            return True
        if found and found.group() != "\\":
            sink(json.dumps(reader.take(1))[1:-1])
        elif found and len(reader.text) > 1:
            sink(reader.take(2))
        elif reader.ended:
            return False
        else:
            yield


def _read_scalar(reader: Reader, sink: Sink) -> Wait[bool]:
    found = yield from reader.find(_SCALAR_END, reach=0)
    text = reader.take(found.start() if found else len(reader.text))
    sink(text)
    return bool(found) and is_json(text)
