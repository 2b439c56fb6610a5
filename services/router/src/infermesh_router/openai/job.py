"""What one request to the OpenAI front asks for: prompts for the endpoints, and how to shape the answer."""

import time
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.images.reading import RemoteImage
from infermesh_router.requests.call import Call
from infermesh_runtime.answer_parsing.parts import Tools


@dataclass(slots=True)
class WholeChoice:
    """One choice of an answer that is not streamed, as its parts arrive."""

    texts: list[str] = field(default_factory=list)
    logprobs: list[pb.TokenLogprob] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    """Gathered only if the answer has them."""
    finish_reason: str = ""
    message: dict[str, Any] = field(default_factory=dict)
    """The message of a chat, if its text had to be parsed."""
    prompt: pb.Started = field(default_factory=pb.Started)
    """What the endpoint told of its prompt."""

    @property
    def text(self) -> str:
        """All of its text."""
        return "".join(self.texts)

    @property
    def cumulative_logprob(self) -> float:
        """The log probability of the whole choice; it needs the log probabilities of its tokens."""
        return sum(token.logprob for token in self.logprobs)


class Shape(Protocol):
    """How chat answers and completions differ. One object for each job, since it may count text offsets."""

    chunk_object: str
    """The `object` of a chunk."""
    text_before: bytes
    """In a chunk that has text only: what comes between the choice's index and the text."""
    text_after: bytes
    """In a chunk that has text only: what comes between the text and the end of the choice."""

    @abstractmethod
    def opening_chunk(self, job: "Job", choice: int, prompt: pb.Started) -> dict[str, Any] | None:
        """The chunk that opens a choice, without its index; None if there is none."""

    @abstractmethod
    def prompt_members(self, job: "Job", prompt: pb.Started) -> dict[str, Any]:
        """What stands beside the choices: what the job asked to be told of its prompt."""

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
    remote_images: tuple[RemoteImage, ...] = ()
    """Images that its only call lacks until they are fetched."""
    choices_per_prompt: int
    """Choices that are generated of each prompt."""
    returned_per_prompt: int
    """Choices that are returned of each prompt, the best ones if more are generated."""
    shape: Shape
    stream: bool
    include_usage: bool
    running_usage: bool = False
    """Whether each chunk has the usage so far."""
    logprobs: bool
    prompt_logprobs: int | None = None
    """How many alternatives the answer has with the log probability of each token of the prompt; None: no such."""
    token_ids: bool = False
    """Whether the answer has the ids of its tokens and of the prompt's."""
    prompt_only: bool = False
    """Whether the answer has the prompt and nothing that was generated."""
    deadline_s: float | None = None
    """How long it may take, in seconds; None: as long as the call may."""
    tools: Tools = field(default_factory=dict)
    """The tools that the model may call; empty if its text is not to be searched for calls."""
    functions: bool = False
    """Whether calls are told in the deprecated form, as one `function_call`."""
    single_call: bool = False
    """Whether the answer has at most one call, the first."""
    field_names: Mapping[str, str]
    """Field paths of GenerateRequest → OpenAI's names, where these depend on the request."""
    created_s: int = field(default_factory=lambda: int(time.time()))
    """Unix time."""

    @property
    def choices(self) -> int:
        """How many choices the answer has, over all prompts."""
        return len(self.calls) * self.choices_per_prompt
