"""One answer as its text is parsed: content, reasoning, tool calls, and how it ended. For answers with one choice."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.answers.chunks import finish_reason_name
from infermesh_runtime.answer_parsing.parser import new_parser
from infermesh_runtime.answer_parsing.parts import (
    CallArguments,
    CallBegins,
    CallEnds,
    OutputStyle,
    Part,
    Reasoning,
    Text,
    Tools,
)


@dataclass(slots=True)
class Call:
    """A tool call of an answer."""

    id: str
    name: str
    arguments: str = ""
    """JSON text."""
    complete: bool = True
    """Whether the arguments are whole; they are not when the answer was cut off in their middle."""


@dataclass(slots=True)
class Answer:
    """All of an answer so far."""

    text: str = ""
    reasoning: str = ""
    calls: list[Call] = field(default_factory=list)
    logprobs: list[pb.TokenLogprob] = field(default_factory=list)
    finish_reason: str = ""
    """"stop", "length" or "tool_calls", once it has ended."""
    stop: str = ""
    """The stop string that ended it."""
    usage: pb.Usage = field(default_factory=pb.Usage)
    started: pb.Started = field(default_factory=pb.Started)
    """What the endpoint told when it began."""
    finished: pb.Finished = field(default_factory=pb.Finished)
    """What the endpoint told when it had ended: usage, timings and moves to other endpoints."""


def style_of(started: pb.Started, *, offers_tools: bool) -> OutputStyle:
    """How the model that answers writes its calls and its reasoning."""
    style = started.answer_style
    return OutputStyle(
        tool_format=style.tool_format if offers_tools else "",
        reasoning=style.reasoning,
        reasoning_opened=style.reasoning_opened,
    )


def new_call_id() -> str:
    """A new id of a tool call, of the length and alphabet that clients know from OpenAI."""
    return f"call_{uuid.uuid4().hex[:24]}"


class ParsedAnswer:
    """Parses one choice as it arrives, and remembers all of it in `answer`."""

    def __init__(self, tools: Tools) -> None:
        self.answer = Answer()
        self._tools = tools
        self._parser = new_parser(OutputStyle(), tools)

    def begin(self, started: pb.Started) -> None:
        """The endpoint has begun, and tells how the model writes."""
        self.answer.started = started
        self._parser = new_parser(style_of(started, offers_tools=bool(self._tools)), self._tools)

    def take(self, delta: pb.Delta) -> Sequence[Part]:
        """New output: the parts that became certain with it."""
        self.answer.logprobs.extend(delta.logprobs)
        return self._keep(self._parser.feed(delta.text)) if delta.text else ()

    def finish(self, finished: pb.Finished) -> Sequence[Part]:
        """The end of the choice: the last parts."""
        answer = self.answer
        answer.finished, answer.usage, answer.stop = finished, finished.usage, finished.stop
        answer.finish_reason = finish_reason_name(finished.finish_reason)
        parts = self._keep(self._parser.end(truncated=answer.finish_reason == "length"))
        if answer.calls and answer.finish_reason == "stop":
            answer.finish_reason = "tool_calls"
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
                    answer.calls.append(Call(new_call_id(), name))
                case CallArguments(index, text):
                    answer.calls[index].arguments += text
                case CallEnds(index, complete):
                    answer.calls[index].complete = complete
        return parts
