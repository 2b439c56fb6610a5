"""One answer as its text is parsed: content, reasoning, tool calls, and how it ended. For answers with one choice."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.answers.chunks import finish_reason_name
from infermesh_runtime.answer_parsing.parser import known_style, new_parser
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

    texts: list[str] = field(default_factory=list)
    """Its content, in the pieces in which it came."""
    thoughts: list[str] = field(default_factory=list)
    """Its reasoning, likewise."""
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
    reasoning_tokens: int = 0
    """How many of its tokens the model thought with."""

    @property
    def text(self) -> str:
        """All of its content."""
        return "".join(self.texts)

    @property
    def reasoning(self) -> str:
        """All of its reasoning."""
        return "".join(self.thoughts)


PLAIN = OutputStyle()
"""The style of an answer that is text and nothing else."""


def style_of(started: pb.Started, *, offers_tools: bool) -> OutputStyle:
    """How the model that answers writes its calls and its reasoning."""
    style = started.answer_style
    return known_style(
        style.tool_format, style.reasoning, reasoning_opened=style.reasoning_opened, offers_tools=offers_tools
    )


def new_call_id(tool_format: str = "") -> str:
    """A new id of a tool call, of the length and alphabet that clients know from OpenAI.

    Mistral's templates refuse ids that are not nine letters and digits when they come back.
    """
    random = uuid.uuid4().hex
    return random[:9] if tool_format == "mistral" else f"call_{random[:24]}"


class ChoiceParser:
    """Parses one choice as it arrives, and remembers no text."""

    def __init__(self, style: OutputStyle, tools: Tools, *, single_call: bool = False) -> None:
        """`single_call`: calls after the first are left out."""
        self.call_ids: list[str] = []
        """The ids of the calls so far."""
        self.reasoning_tokens = 0
        """Tokens that the model thought with: those that became certain together with reasoning.

        Of several tokens that came at once, such as those of a stream that was behind, and became reasoning and other
        parts, each has its share by the length of the text.
        """
        self.finish_reason = ""
        """"stop", "length" or "tool_calls", once it has ended."""
        self._single_call = single_call
        self._tool_format = style.tool_format
        self._parser = new_parser(style, tools)
        self._thinking = style.reasoning_opened
        self._uncertain_tokens = 0

    def take(self, delta: pb.Delta) -> Sequence[Part]:
        """New output: the parts that became certain with it."""
        tokens = len(delta.token_ids)
        self._uncertain_tokens += tokens
        return self._note(self._parser.feed(delta.text), several=tokens > 1) if delta.text else ()

    def finish(self, finished: pb.Finished) -> Sequence[Part]:
        """The end of the choice: the last parts."""
        reason = finish_reason_name(finished.finish_reason)
        parts = self._note(self._parser.end(truncated=reason == "length"))
        if self._thinking:
            self.reasoning_tokens += self._uncertain_tokens
        self.finish_reason = "tool_calls" if self.call_ids and reason == "stop" else reason
        return parts

    def _note(self, parts: Sequence[Part], *, several: bool = False) -> Sequence[Part]:
        if not parts:
            return parts
        if several and len(parts) > 1:
            self.reasoning_tokens += round(self._uncertain_tokens * _share_of_reasoning(parts))
        elif isinstance(parts[0], Reasoning):
            self.reasoning_tokens += self._uncertain_tokens
        self._uncertain_tokens = 0
        self._thinking = isinstance(parts[-1], Reasoning)
        if self._single_call:
            parts = [part for part in parts if isinstance(part, Text | Reasoning) or part.index == 0]
        self.call_ids += [new_call_id(self._tool_format) for part in parts if isinstance(part, CallBegins)]
        return parts


def _share_of_reasoning(parts: Sequence[Part]) -> float:
    """How much of the text of all parts is reasoning."""
    lengths = [(isinstance(part, Reasoning), len(getattr(part, "text", ""))) for part in parts]
    return sum(length for thought, length in lengths if thought) / max(1, sum(length for _, length in lengths))


class ParsedAnswer:
    """Parses one choice as it arrives, and remembers all of it in `answer`."""

    def __init__(self, tools: Tools, *, single_call: bool = False) -> None:
        """`single_call`: calls after the first are left out."""
        self.answer = Answer()
        self._tools = tools
        self._single_call = single_call
        self._parser = ChoiceParser(PLAIN, tools)

    def begin(self, started: pb.Started) -> None:
        """The endpoint has begun, and tells how the model writes."""
        self.answer.started = started
        style = style_of(started, offers_tools=bool(self._tools))
        self._parser = ChoiceParser(style, self._tools, single_call=self._single_call)

    def take(self, delta: pb.Delta) -> Sequence[Part]:
        """New output: the parts that became certain with it."""
        self.answer.logprobs.extend(delta.logprobs)
        return self._keep(self._parser.take(delta))

    def finish(self, finished: pb.Finished) -> Sequence[Part]:
        """The end of the choice: the last parts."""
        answer = self.answer
        answer.finished, answer.usage, answer.stop = finished, finished.usage, finished.stop
        parts = self._keep(self._parser.finish(finished))
        answer.finish_reason, answer.reasoning_tokens = self._parser.finish_reason, self._parser.reasoning_tokens
        return parts

    def _keep(self, parts: Sequence[Part]) -> Sequence[Part]:
        answer = self.answer
        for part in parts:
            match part:
                case Text(text):
                    answer.texts.append(text)
                case Reasoning(text):
                    answer.thoughts.append(text)
                case CallBegins(_, name):
                    answer.calls.append(Call(self._parser.call_ids[len(answer.calls)], name))
                case CallArguments(index, text):
                    answer.calls[index].arguments += text
                case CallEnds(index, complete):
                    answer.calls[index].complete = complete
        return parts
