"""Parses gpt-oss's Harmony messages: each has a channel, and perhaps the tool that it calls, in its header."""

import re

from infermesh_runtime.answer_parsing.formats.headed import read_arguments
from infermesh_runtime.answer_parsing.reader import Sink, Wait
from infermesh_runtime.answer_parsing.turn import Turn

_START, _MESSAGE, _END, _CALL, _RETURN = "<|start|>", "<|message|>", "<|end|>", "<|call|>", "<|return|>"
_RECIPIENT = re.compile(r"\bto=([^\s<]+)")
_CHANNEL = re.compile(r"<\|channel\|>\s*(\w+)")
_TEXT_ENDS = (_END, _START, _RETURN)
_ALL_ENDS = (*_TEXT_ENDS, _CALL)


def read_harmony(turn: Turn) -> Wait[None]:
    """Parses an answer: the analysis is reasoning, what calls a function is a call, and the rest is text."""
    while True:
        header: list[str] = []
        mark = yield from turn.reader.until((_MESSAGE, *_ALL_ENDS), header.append)
        if mark == _MESSAGE:
            yield from _read_message(turn, "".join(header))
        elif not mark:
            _read_rest(turn, "".join(header))
            return


def _read_message(turn: Turn, header: str) -> Wait[None]:
    recipient, channel = _RECIPIENT.search(header), _CHANNEL.search(header)
    if recipient and recipient[1] != "assistant":
        name = recipient[1].removeprefix("functions.")
        if recipient[1] != name or name in turn.tools:
            yield from turn.reader.spaces()
            yield from read_arguments(turn, name)
        yield from turn.reader.until(_ALL_ENDS, _drop)  # a tool of gpt-oss itself, which nobody here runs, too
    elif channel and channel[1] == "analysis":
        yield from turn.reader.until(_TEXT_ENDS, turn.answer.reasoning)
        turn.answer.end_reasoning()
    else:
        yield from turn.reader.until(_TEXT_ENDS, turn.answer.text)


def _read_rest(turn: Turn, header: str) -> None:
    """Text that comes where a header should be, or after the channel in one."""
    if not turn.reader.truncated and not _RECIPIENT.search(header):
        channel = _CHANNEL.search(header)
        turn.answer.text(header[channel.end() :] if channel else header)


_drop: Sink = lambda _text: None  # noqa: E731
