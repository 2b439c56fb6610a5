"""Reads calls that are JSON objects of a name and arguments, alone or in an array, and streams the arguments."""

from dataclasses import dataclass, field

from infermesh_runtime.answer_parsing.json_values import decoded_string, is_object, read_text, read_value
from infermesh_runtime.answer_parsing.reader import Wait
from infermesh_runtime.answer_parsing.turn import Turn

_ARGUMENTS = ("arguments", "parameters")
_NAMES = ("name", "function", "tool_name")
_OTHER = ("type", "id", "index")


@dataclass(slots=True)
class _Call:
    only_known: bool
    name: str = ""
    begun: bool = False
    held: list[str] = field(default_factory=list)


def read_calls(turn: Turn, *, only_known: bool) -> Wait[bool]:
    """Takes an array of calls, or calls that follow each other. Whether there was at least one: only if there was none
    is what was taken needed again. An object after a call that is none itself is given back here.

    `only_known` refuses names that are not among the tools, and keys that no call has: nothing else says it is a call.
    """
    reader = turn.reader
    in_array = yield from reader.literal("[")
    count = 0
    while True:
        yield from reader.spaces()
        if (yield from reader.character()) != "{":
            break
        if not (yield from read_call(turn, only_known=only_known)):
            if count:
                turn.give_back(reader.stop_record(), marked=not only_known)
            break
        count += 1
        if not in_array and (yield from _stands_alone(turn)):
            return True
        reader.start_record()
        yield from reader.spaces()
        yield from reader.literal(",", ";")
    yield from reader.literal("]" if in_array else "")
    return count > 0


def read_call(turn: Turn, *, only_known: bool) -> Wait[bool]:
    """Takes one object. False when it is no call, or was cut off before its arguments began to stream.

    Its brace may be doubled, and the last one with it: so says the chat template of some Qwen 2.5 Coder.
    """
    call = _Call(only_known)
    yield from turn.reader.literal("{")
    doubled = yield from turn.reader.literal("{")
    whole = yield from _read_members(turn, call)
    if whole and call.name and not call.begun:
        turn.answer.begin_call(call.name)
        turn.answer.arguments(_as_object("".join(call.held)))
        call.begun = True
    if call.begun:
        turn.answer.end_call()
        yield from turn.reader.literal("}" if doubled else "")
    return call.begun


def _stands_alone(turn: Turn) -> Wait[bool]:
    """Whether no other call follows: only a separator, or nothing, is between two of them."""
    reader = turn.reader
    size = len(reader.text) - len(reader.text.lstrip())
    while size == len(reader.text) and not reader.ended:
        yield
        size = len(reader.text) - len(reader.text.lstrip())
    return reader.text[size : size + 1] not in ("{", ";", ",")


def _read_members(turn: Turn, call: _Call) -> Wait[bool]:
    """Takes the members of an object up to its end. False when it is broken, or not that of a call."""
    reader = turn.reader
    while True:
        yield from reader.spaces()
        if (yield from reader.literal("}")):
            return True
        key = yield from read_text(reader)
        yield from reader.spaces()
        if key is None or not (yield from reader.literal(":")):
            return False
        yield from reader.spaces()
        if not (yield from _read_member(turn, call, key)):
            return False
        yield from reader.spaces()
        yield from reader.literal(",")


def _read_member(turn: Turn, call: _Call, key: str) -> Wait[bool]:
    reader = turn.reader
    first = yield from reader.character()
    if key == "function" and first == "{":
        yield from reader.literal("{")
        return (yield from _read_members(turn, call))
    if key in _NAMES:
        name = yield from read_text(reader)
        call.name = name or ""
        return bool(name) and (name in turn.tools or not call.only_known)
    if key in _ARGUMENTS and not (call.begun or call.held):
        return (yield from _read_arguments(turn, call, streams=first == "{"))
    if call.only_known and key not in _OTHER:
        return False
    return (yield from read_value(reader, lambda _text: None))


def _read_arguments(turn: Turn, call: _Call, *, streams: bool) -> Wait[bool]:
    if not (streams and call.name):
        return (yield from read_value(turn.reader, call.held.append))
    call.begun = True
    turn.answer.begin_call(call.name)
    return (yield from read_value(turn.reader, turn.answer.arguments))


def _as_object(text: str) -> str:
    """Arguments as JSON text: a model may leave them out, or write them as a string of JSON."""
    if text.startswith('"'):
        decoded = decoded_string(text) or ""
        return decoded if is_object(decoded) else "{}" if not decoded.strip() else text
    return "{}" if text in ("", "null") else text
