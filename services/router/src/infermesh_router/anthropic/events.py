"""Writes answers as Anthropic's stream events: each content block begins, grows and stops."""

from typing import Any, Literal

import orjson

from infermesh_router.anthropic.answers import MessageMaker, call_id, signature, text_block, usage_object
from infermesh_router.anthropic.errors import error_object
from infermesh_router.openai.answers.chunks import comment, failovers_member
from infermesh_router.openai.answers.parsed import Answer
from infermesh_router.openai.answers.sinks import EVENTS
from infermesh_runtime.answer_parsing.parts import CallArguments, CallBegins, CallEnds, Part, Reasoning, Text
from infermesh_runtime.errors import InfermeshError

_PING = b'event: ping\ndata: {"type":"ping"}\n\n'
_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_DELTA = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":%d,"delta":%s}\n\n'


class MessageEvents:
    """The `Events` of one answer."""

    content_type = EVENTS

    def __init__(self, maker: MessageMaker, request_id: str) -> None:
        self._maker = maker
        self._request_id = request_id
        self._index = -1
        """Of the block that was opened last."""
        self._open: Literal["", "text", "thinking", "tool_use"] = ""
        self._thinking = ""
        """What the open block of thinking has."""
        self._blank = ""
        """White space that is text only if more follows: models write it between thinking and calls."""

    def begin(self, answer: Answer) -> bytes:
        """Opens the message."""
        return _event({"type": "message_start", "message": self._maker.opening(answer)}) + _PING

    def wait(self, text: str) -> bytes:
        """A ping, as Anthropic keeps its streams open, with a comment for people."""
        return comment(text).removesuffix(b"\n") + _PING

    def part(self, part: Part, answer: Answer) -> bytes:
        """Adds to the open block, or closes it and opens the next one."""
        match part:
            case Text(text):
                return self._text(text)
            case Reasoning(text):
                opening = self._begin_block("thinking", {"type": "thinking", "thinking": "", "signature": ""})
                self._thinking += text
                return opening + self._delta({"type": "thinking_delta", "thinking": text})
            case CallBegins(index, name):
                block = {"type": "tool_use", "id": call_id(answer.calls[index].id), "name": name, "input": {}}
                return self._close() + self._begin_block("tool_use", block)
            case CallArguments(_, text):
                return self._delta({"type": "input_json_delta", "partial_json": text})
            case CallEnds():
                return self._close()

    def end(self, answer: Answer) -> bytes:
        """Closes the message."""
        blank = self._flush() if not answer.calls else b""
        if self._index < 0:
            blank += self._begin_block("text", text_block(""))
        ending = {
            "type": "message_delta",
            "delta": self._maker.ending(answer),
            "usage": usage_object(answer),
            **failovers_member(answer.finished.failovers),
        }
        return blank + self._close() + _event(ending) + _STOP

    def fail(self, error: InfermeshError, answer: Answer) -> bytes:  # noqa: ARG002 - an `Events`' shape
        """Tells what ended the stream before its message was complete."""
        return _event(error_object(error, self._request_id))

    def _text(self, text: str) -> bytes:
        if self._open != "text":
            text, self._blank = self._blank + text, ""
            if not text.strip():
                self._blank = text
                return b""
        return self._begin_block("text", text_block("")) + self._delta({"type": "text_delta", "text": text})

    def _flush(self) -> bytes:
        """White space that turned out to be all the text."""
        text, self._blank = self._blank, ""
        if not text:
            return b""
        return self._begin_block("text", text_block("")) + self._delta({"type": "text_delta", "text": text})

    def _begin_block(self, kind: Literal["text", "thinking", "tool_use"], block: dict[str, Any]) -> bytes:
        if self._open == kind:
            return b""
        closing = self._close()
        self._open, self._blank = kind, ""
        self._index += 1
        return closing + _event({"type": "content_block_start", "index": self._index, "content_block": block})

    def _delta(self, delta: dict[str, Any]) -> bytes:
        return _DELTA % (self._index, orjson.dumps(delta))

    def _close(self) -> bytes:
        if not self._open:
            return b""
        signing = b""
        if self._open == "thinking":
            signing = self._delta({"type": "signature_delta", "signature": signature(self._thinking)})
            self._thinking = ""
        self._open = ""
        return signing + _event({"type": "content_block_stop", "index": self._index})


def _event(data: dict[str, Any]) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (str(data["type"]).encode(), orjson.dumps(data))
