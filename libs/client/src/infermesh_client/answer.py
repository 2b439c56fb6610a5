"""Reads an answer's text, reasoning and tool calls out of the events of a stream, for both clients."""

import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from infermesh.inference.v1 import inference_pb2
from infermesh_client.request import ChatMessage, Event, GenerateOptions, Prompt, build_request
from infermesh_runtime.answer_parsing.parser import known_style, new_parser
from infermesh_runtime.answer_parsing.parts import (
    AnswerParser,
    CallArguments,
    CallBegins,
    CallEnds,
    OutputStyle,
    Part,
    Reasoning,
    Text,
)
from infermesh_runtime.errors import InvalidArgument

_REASONS = {
    inference_pb2.FINISH_REASON_STOP: "stop",
    inference_pb2.FINISH_REASON_LENGTH: "length",
    inference_pb2.FINISH_REASON_TOOL_CALLS: "tool_calls",
    inference_pb2.FINISH_REASON_CANCELLED: "cancelled",
}


@dataclass(slots=True)
class ToolCall:
    """A tool call of an answer."""

    id: str
    """Names the call in the message with its result."""
    name: str
    arguments: str = ""
    """JSON text."""
    complete: bool = True
    """Whether the arguments are valid JSON; they are not where a limit cut them off."""


@dataclass(slots=True)
class Answer:
    """An answer to a conversation."""

    text: str = ""
    reasoning: str = ""
    """What the model thought before it answered."""
    tool_calls: list[ToolCall] = field(default_factory=list)
    finish_reason: str = ""
    """"stop", "length", "tool_calls" or "cancelled"; empty until it has ended."""
    started: inference_pb2.Started = field(default_factory=inference_pb2.Started)
    usage: inference_pb2.Usage = field(default_factory=inference_pb2.Usage)
    finished: inference_pb2.Finished = field(default_factory=inference_pb2.Finished)
    """The last event: also the time it took to compute, and moves to other endpoints."""

    def message(self) -> ChatMessage:
        """The answer as a message of the conversation, which the results of its calls follow."""
        calls = [
            inference_pb2.ToolCall(id=call.id, name=call.name, arguments_json=call.arguments)
            for call in self.tool_calls
        ]
        message: ChatMessage = {"role": "assistant", "content": self.text, "tool_calls": calls}
        if self.reasoning:
            message["reasoning_content"] = self.reasoning
        return message


class AnswerReader:
    """Reads one answer as its events arrive. However they are split, the answer is the same."""

    def __init__(self, prompt: Prompt, options: GenerateOptions) -> None:
        """Raises InvalidArgument for a bad prompt or option, or for more than one choice."""
        if (options.get("n") or 1) != 1:
            raise InvalidArgument("chat reads one choice; use generate for n of them")
        self.request = build_request(prompt, {**options, "show_marks": True})
        """What to send."""
        if not self.request.HasField("chat"):
            raise InvalidArgument("chat needs a conversation (a list of messages) as the prompt; use generate")
        self.answer = Answer()
        """All of the answer so far."""
        self._tools = {tool.name: _schema(tool) for tool in self.request.chat.tools}
        self._parser: AnswerParser = new_parser(OutputStyle(), self._tools)
        self._format = ""

    def take(self, event: Event) -> Sequence[Part]:
        """The parts that became certain with an event, in order."""
        match event:
            case inference_pb2.Started():
                self._begin(event)
                return ()
            case inference_pb2.Delta():
                return self._keep(self._parser.feed(event.text)) if event.text else ()
            case inference_pb2.Finished():
                return self._end(event)

    def _begin(self, started: inference_pb2.Started) -> None:
        style = started.answer_style
        known = known_style(
            style.tool_format,
            style.reasoning,
            reasoning_opened=style.reasoning_opened,
            offers_tools=bool(self._tools),
        )
        self.answer.started, self._format = started, known.tool_format
        self._parser = new_parser(known, self._tools)

    def _end(self, finished: inference_pb2.Finished) -> Sequence[Part]:
        reason = _REASONS.get(finished.finish_reason, "")
        parts = self._keep(self._parser.end(truncated=reason == "length"))
        self.answer.usage, self.answer.finished = finished.usage, finished
        self.answer.finish_reason = "tool_calls" if self.answer.tool_calls and reason == "stop" else reason
        return parts

    def _keep(self, parts: Sequence[Part]) -> Sequence[Part]:
        answer = self.answer
        for part in parts:
            match part:
                case Text(text):
                    answer.text += text
                case Reasoning(text):
                    answer.reasoning += text
                case CallBegins(_, name):
                    answer.tool_calls.append(ToolCall(_new_id(self._format), name))
                case CallArguments(index, text):
                    answer.tool_calls[index].arguments += text
                case CallEnds(index, complete):
                    answer.tool_calls[index].complete = complete
        return parts


def _schema(tool: inference_pb2.Tool) -> dict[str, Any]:
    try:
        schema: object = json.loads(tool.parameters_json or "{}")
    except ValueError as error:
        raise InvalidArgument(f"parameters_json of the tool {tool.name!r} is not valid JSON: {error}") from error
    if not isinstance(schema, dict):
        raise InvalidArgument(f"parameters_json of the tool {tool.name!r} must be a JSON object")
    return schema


def _new_id(tool_format: str) -> str:
    """Mistral's templates refuse ids that are not nine letters and digits when they come back."""
    random = uuid.uuid4().hex
    return random[:9] if tool_format == "mistral" else f"call_{random[:24]}"
