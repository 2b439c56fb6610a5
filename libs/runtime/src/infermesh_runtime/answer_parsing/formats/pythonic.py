"""Parses calls written as a list of Python calls: `[f(a=1), g()]` (Llama 4, Gemma 3, Olmo 3, LFM2)."""

import ast
import json
import re
from typing import Any

from infermesh_runtime.answer_parsing.formats.held import CallText
from infermesh_runtime.answer_parsing.reader import Reader, Wait
from infermesh_runtime.answer_parsing.turn import Turn

_BEGINS = ("<|python_start|>", "<|tool_call_start|>", "<function_calls>", "```tool_code\n")
_ENDS = ("<|python_end|>", "<|tool_call_end|>", "</function_calls>", "```")
_TOKEN = re.compile(r"""["'()\[\]{}]""")
_NAME = re.compile(r"\s{0,9}([A-Za-z_][\w.-]{0,255})\s{0,9}\(")
_MAY_BE_NAME = re.compile(r"\s{0,9}(?:[A-Za-z_][\w.-]{0,255}\s{0,9})?\Z")
_MAX_LENGTH = 100_000
"""Longest list of calls that is read, in characters: Python's parser takes long for more."""


class Pythonic:
    """The format; a list without a mark counts only at the beginning of a line, and with names of known tools."""

    marks = (*_BEGINS[:-1], *_ENDS[:-1])

    def body(self, turn: Turn) -> Wait[None]:
        """Parses an answer."""
        while mark := (yield from turn.reader.until((*_BEGINS, "["), turn.answer.text)):
            if mark != "[":
                yield from self._read_list(turn, mark)
            elif turn.answer.at_line_start and turn.tools:
                turn.reader.put_back(mark)
                yield from self._read_list(turn, "")
            else:
                turn.answer.text(mark)

    def _read_list(self, turn: Turn, mark: str) -> Wait[None]:
        reader = turn.reader
        reader.start_record()
        yield from reader.spaces()
        calls = yield from _read_calls(reader, turn, marked=bool(mark))
        taken = reader.stop_record()
        if calls is None:
            turn.give_back(mark + taken, marked=bool(mark))
            return
        for name, arguments in calls:
            turn.answer.call(name, arguments)
        spaces = yield from reader.spaces()
        if not (yield from reader.literal(*_ENDS)):
            turn.answer.text(spaces)


def _read_calls(reader: Reader, turn: Turn, *, marked: bool) -> Wait[list[CallText] | None]:
    """Takes the calls, in a list or one by one; None when they are none, or not whole."""
    if (yield from reader.character()) != "[":
        return (yield from _read_lines(reader, marked))
    if not marked and not (yield from _begins_like_call(reader, turn)):
        return None
    text: list[str] = []
    if not (yield from _take_brackets(reader, text)):
        return None
    calls = _parse("".join(text))
    return calls if calls and (marked or all(name in turn.tools for name, _ in calls)) else None


def _read_lines(reader: Reader, marked: bool) -> Wait[list[CallText] | None]:
    """Calls without a list around them, one a line, as some write them after a mark."""
    if not marked:
        return None
    text: list[str] = []
    end = yield from reader.until(_ENDS, text.append)
    return _parse("[" + ",".join(filter(str.strip, "".join(text).splitlines())) + "]") if end else None


def _begins_like_call(reader: Reader, turn: Turn) -> Wait[bool]:
    """Whether the name of a tool and a bracket follow the one that is next. If not, that one is taken."""
    while not (found := _NAME.match(reader.text, 1)) and not reader.ended and _MAY_BE_NAME.match(reader.text, 1):
        yield
    if found and found[1] in turn.tools:
        return True
    reader.take(1)
    return False


def _take_brackets(reader: Reader, taken: list[str]) -> Wait[bool]:
    """Takes text up to the bracket that closes the first one; False when the text ends before."""
    depth = 0
    while True:
        found = _TOKEN.search(reader.text)
        if not found:
            taken.append(reader.take(len(reader.text)))
            if reader.ended:
                return False
            yield
            continue
        taken.append(reader.take(found.end()))
        if found.group() in "\"'":
            if not (yield from _take_string(reader, found.group(), taken)):
                return False
        else:
            depth += 1 if found.group() in "([{" else -1
            if depth == 0:
                return True


def _take_string(reader: Reader, quote: str, taken: list[str]) -> Wait[bool]:
    while mark := (yield from reader.until((quote, "\\"), taken.append)):
        taken.append(mark)
        if mark == quote:
            return True
        yield from reader.character()
        taken.append(reader.take(1))
    return False


def _parse(text: str) -> list[CallText] | None:
    if len(text) > _MAX_LENGTH:
        return None
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        calls = tree.elts if isinstance(tree, ast.List) else [tree]
        return [_call_of(call) for call in calls]
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _call_of(node: ast.expr) -> CallText:
    """Raises ValueError when it is no call with named, literal arguments."""
    if not isinstance(node, ast.Call) or node.args or any(keyword.arg is None for keyword in node.keywords):
        raise ValueError(node)
    arguments: dict[str, Any] = {str(keyword.arg): _literal(keyword.value) for keyword in node.keywords}
    return ast.unparse(node.func), json.dumps(arguments, ensure_ascii=False, allow_nan=False)


def _literal(node: ast.expr) -> Any:
    """The value of a literal; JSON's words for constants count, too."""
    words = {"true": True, "false": False, "null": None}
    if isinstance(node, ast.Name) and node.id in words:
        return words[node.id]
    return ast.literal_eval(node)
