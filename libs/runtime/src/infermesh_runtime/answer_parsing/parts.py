"""The parts of an answer, and what turns a model's text into them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Tools = Mapping[str, Mapping[str, Any]]
"""The JSON schema of each tool's arguments, by the tool's name. Empty when the request offers none."""


@dataclass(frozen=True, slots=True)
class Text:
    """A piece of the answer's content."""

    text: str


@dataclass(frozen=True, slots=True)
class Reasoning:
    """A piece of what the model thought before it answered."""

    text: str


@dataclass(frozen=True, slots=True)
class CallBegins:
    """A tool call begins. Calls are numbered from 0 in the order in which the model makes them."""

    index: int
    name: str


@dataclass(frozen=True, slots=True)
class CallArguments:
    """A piece of a call's arguments. All pieces in order, joined, are the JSON text of the arguments."""

    index: int
    text: str


@dataclass(frozen=True, slots=True)
class CallEnds:
    """No more arguments of this call follow."""

    index: int
    complete: bool
    """Whether the arguments are valid JSON. They are not if a limit cut them off, or if the model wrote them wrong."""


Part = Text | Reasoning | CallBegins | CallArguments | CallEnds


class AnswerParser(Protocol):
    """Parses one answer. However its text is split, the joined parts are the same."""

    def feed(self, text: str) -> list[Part]:
        """The parts that became certain with this piece of text; often one, sometimes none."""
        ...

    def end(self, truncated: bool) -> list[Part]:
        """The last parts. `truncated` says that a limit cut the answer off, so the model had more to say.

        A call that is cut off ends. What was not sent of it is dropped if the model had marked it as a call, and is
        text if it only looked like one.
        """
        ...


@dataclass(frozen=True, slots=True)
class OutputStyle:
    """How a model writes its tool calls and its reasoning."""

    tool_format: str = ""
    """A name in `formats.table.FORMATS`; empty when the model makes no calls, or the request offers no tools."""
    reasoning: str = ""
    """A name in `infermesh_runtime`'s REASONING_MARKS; empty when the model writes none, or in channels as Harmony."""
    reasoning_opened: bool = False
    """Whether the prompt already opened the reasoning, so that only its end is written."""
