"""What one request to the OpenAI front asks for: prompts for the endpoints, and how to shape the answer."""

import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.requests.call import Call


@dataclass(slots=True)
class WholeChoice:
    """One choice of an answer that is not streamed, as its parts arrive."""

    texts: list[str] = field(default_factory=list)
    logprobs: list[pb.TokenLogprob] = field(default_factory=list)
    finish_reason: str = ""

    @property
    def text(self) -> str:
        """All of its text."""
        return "".join(self.texts)


class Shape(Protocol):
    """How chat answers and completions differ. One object for each job, since it may count text offsets."""

    chunk_object: str
    """The `object` of a chunk."""
    text_before: bytes
    """In a chunk that has text only: what comes between the choice's index and the text."""
    text_after: bytes
    """In a chunk that has text only: what comes between the text and the end of the choice."""

    @abstractmethod
    def role_chunk(self) -> dict[str, Any] | None:
        """The chunk that opens a choice, without its index; None if there is none."""

    @abstractmethod
    def delta_chunk(self, choice: int, text: str, tokens: list[pb.TokenLogprob]) -> dict[str, Any]:
        """A chunk with log probabilities, without its index."""

    @abstractmethod
    def finish_chunk(self, finish_reason: str) -> dict[str, Any]:
        """The chunk that closes a choice, without its index."""

    @abstractmethod
    def whole(self, job: "Job", choices: list[WholeChoice]) -> dict[str, Any]:
        """The whole answer except its usage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A request, converted: what to generate and how to answer."""

    id: str
    model: str
    calls: tuple[Call, ...]
    """One for each prompt."""
    choices_per_prompt: int
    shape: Shape
    stream: bool
    include_usage: bool
    logprobs: bool
    field_names: Mapping[str, str]
    """Field paths of GenerateRequest → OpenAI's names, where these depend on the request."""
    created_s: int = field(default_factory=lambda: int(time.time()))
    """Unix time."""

    @property
    def choices(self) -> int:
        """How many choices the answer has, over all prompts."""
        return len(self.calls) * self.choices_per_prompt
