"""Builds the output items of a response from the parts of its answer, and the events that tell of them."""

from typing import Any

import orjson

from infermesh_router.openai.answers.logprobs import chat_logprobs
from infermesh_router.openai.answers.parsed import Answer
from infermesh_router.responses.told import new_item_id
from infermesh_runtime.answer_parsing.parts import CallArguments, CallBegins, CallEnds, Part, Reasoning, Text

_PARTS: dict[str, dict[str, Any]] = {
    "message": {"type": "output_text", "text": "", "annotations": [], "logprobs": []},
    "reasoning": {"type": "reasoning_text", "text": ""},
}
_TEXT_EVENTS = {"message": "response.output_text", "reasoning": "response.reasoning_text"}
"""The item's type → how the events of its text are called, without `.delta` and `.done`."""


class Output:
    """The items so far. Each call returns the events of what is new.

    An item is open until another kind of part comes. The text of a message or a reasoning is in its only part.
    """

    def __init__(self, *, logprobs: bool) -> None:
        self.items: list[dict[str, Any]] = []
        self._logprobs = logprobs
        self._seen_tokens = 0
        self._sequence = 0
        self._texts: list[str] = []
        """The text of the open item, in pieces."""
        self._open = ""
        """The type of the open item."""
        self._delta_head = b""

    def event(self, kind: str, members: dict[str, Any]) -> bytes:
        """An event with the next number."""
        data = orjson.dumps({"type": kind, "sequence_number": self._sequence, **members})
        self._sequence += 1
        return b"event: %b\ndata: %b\n\n" % (kind.encode(), data)

    def take(self, part: Part, answer: Answer) -> bytes:
        """A new part, which `answer` has already."""
        match part:
            case Text(text):
                return self._write("message", text, answer)
            case Reasoning(text):
                return self._write("reasoning", text, answer)
            case CallBegins(index, name):
                call = answer.calls[index]
                return self._begin("function_call", call_id=call.id, name=name, arguments="")
            case CallArguments(_, text):
                self._texts.append(text)
                return self._delta(text)
            case CallEnds(_, complete):
                return self.close("completed" if complete else "incomplete")

    def finish(self, status: str) -> bytes:
        """The end of the answer: closes the open item. An answer without any item gets an empty message."""
        opened = b"" if self.items else self._begin("message", role="assistant", content=[])
        return opened + self.close(status)

    def close(self, status: str) -> bytes:
        """Closes the open item, if there is one."""
        if not self._open:
            return b""
        kind, item, text = self._open, self.items[-1], "".join(self._texts)
        self._open = ""
        item["status"] = status
        where = {"item_id": item["id"], "output_index": len(self.items) - 1}
        if kind == "function_call":
            item["arguments"] = text
            told = {**where, "name": item["name"], "arguments": text}
            done = self.event("response.function_call_arguments.done", told)
        else:
            part = item["content"][0]
            part["text"] = text
            where["content_index"] = 0
            members = {**where, "text": text}
            if kind == "message":
                members["logprobs"] = part["logprobs"]
            done = self.event(f"{_TEXT_EVENTS[kind]}.done", members)
            done += self.event("response.content_part.done", {**where, "part": part})
        return done + self.event("response.output_item.done", {"output_index": len(self.items) - 1, "item": item})

    def _write(self, kind: str, text: str, answer: Answer) -> bytes:
        opened = b""
        if self._open != kind:
            begun = {"role": "assistant", "content": []} if kind == "message" else {"summary": [], "content": []}
            opened = self.close("completed") + self._begin(kind, **begun)
        self._texts.append(text)
        if not self._logprobs:
            return opened + self._delta(text)
        tokens = chat_logprobs(answer.logprobs[self._seen_tokens :])
        self._seen_tokens = len(answer.logprobs)
        if kind != "message":
            return opened + self._delta(text)
        item = self.items[-1]
        item["content"][0]["logprobs"] += tokens
        where = {"item_id": item["id"], "output_index": len(self.items) - 1, "content_index": 0}
        return opened + self.event("response.output_text.delta", {**where, "delta": text, "logprobs": tokens})

    def _begin(self, kind: str, **members: Any) -> bytes:
        closed = self.close("completed")
        item = {"id": new_item_id(kind), "type": kind, "status": "in_progress", **members}
        index = len(self.items)
        self.items.append(item)
        self._open, self._texts = kind, []
        begun = self.event("response.output_item.added", {"output_index": index, "item": item})
        where = {"item_id": item["id"], "output_index": index}
        if kind == "function_call":
            self._delta_head = _delta_head("response.function_call_arguments.delta", where)
            return closed + begun
        part = {name: value if isinstance(value, str) else [] for name, value in _PARTS[kind].items()}
        item["content"] = [part]
        where["content_index"] = 0
        more: dict[str, Any] = {"logprobs": []} if kind == "message" else {}
        self._delta_head = _delta_head(f"{_TEXT_EVENTS[kind]}.delta", where | more)
        return closed + begun + self.event("response.content_part.added", {**where, "part": part})

    def _delta(self, text: str) -> bytes:
        """The event of new text: put together of bytes, since there is one for each token."""
        event = b'%b,"sequence_number":%d,"delta":%b}\n\n' % (self._delta_head, self._sequence, orjson.dumps(text))
        self._sequence += 1
        return event


def _delta_head(kind: str, members: dict[str, Any]) -> bytes:
    """What the delta events of an item begin with."""
    return b"event: %b\ndata: %b" % (kind.encode(), orjson.dumps({"type": kind, **members})[:-1])
