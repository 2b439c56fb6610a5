"""Owns the bytes of an answer, whole or in chunks; chat and completions differ in a few names. Knows no I/O.

A chunk's text is escaped and put between two constants: a token costs no dictionary.
"""

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.convert import Job

DONE = b"data: [DONE]\n\n"
_END = b"}\n\n"

_FINISH_REASONS = {
    pb.FINISH_REASON_STOP: "stop",
    pb.FINISH_REASON_LENGTH: "length",
    pb.FINISH_REASON_TOOL_CALLS: "tool_calls",
}


@dataclass(slots=True)
class Answer:
    """One choice of a whole answer, as it comes together."""

    texts: list[str] = field(default_factory=list)
    logprobs: list[pb.TokenLogprob] = field(default_factory=list)
    finish_reason: str = ""

    @property
    def text(self) -> str:
        """All of its text."""
        return "".join(self.texts)


class Shape(Protocol):
    """What an endpoint of the API answers in."""

    chunk_object: str
    """The chunks' `object`."""
    text_before: bytes
    """Of a chunk with text only: from the choice's index to the text."""
    text_after: bytes
    """Of a chunk with text only: from the text to the end of the choice."""

    @abstractmethod
    def role_chunk(self) -> dict[str, Any] | None:
        """The choice of the chunk that opens a choice, without its index; None when nothing does."""

    @abstractmethod
    def delta_chunk(self, choice: int, text: str, tokens: list[pb.TokenLogprob]) -> dict[str, Any]:
        """The choice of a chunk with log probabilities, without its index."""

    @abstractmethod
    def finish_chunk(self, finish_reason: str) -> dict[str, Any]:
        """The choice of the chunk that closes a choice, without its index."""

    @abstractmethod
    def whole(self, job: Job, answers: list[Answer]) -> dict[str, Any]:
        """The whole answer but for its usage."""


def head(job: Job, kind: str) -> dict[str, Any]:
    """What every answer and every chunk begins with."""
    return {
        "id": job.id,
        "object": kind,
        "created": job.created_s,
        "model": job.model,
        "system_fingerprint": None,
    }


def usage_object(usage: pb.Usage) -> dict[str, Any]:
    """OpenAI's usage."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def failovers_member(failovers: Iterable[pb.Failover]) -> dict[str, Any]:
    """The member `infermesh` of an answer or a chunk, with the moves of its stream; no member when there was none."""
    moves = [{"from": move.from_endpoint, "to": move.to_endpoint, "reason": move.reason} for move in failovers]
    return {"infermesh": {"failovers": moves}} if moves else {}


def finish_reason_name(reason: pb.FinishReason) -> str:
    """OpenAI's name; "stop" for what it has no name for."""
    return _FINISH_REASONS.get(reason, "stop")


class ChunkEncoder:
    """Makes the server-sent events of one stream."""

    def __init__(self, job: Job, shape: Shape) -> None:
        self._shape = shape
        self._head = b"data: " + orjson.dumps(head(job, shape.chunk_object))[:-1]
        self._usage = b',"usage":null}\n\n' if job.include_usage else _END
        choices = range(len(job.prompts) * job.choices_per_prompt)
        self._before = [self._head + b',"choices":[{"index":%d' % choice for choice in choices]
        self._text_before = [before + shape.text_before for before in self._before]
        self._after = b"]" + self._usage
        self._text_after = shape.text_after + self._after

    def begin(self, choice: int) -> bytes:
        """The event that opens a choice; b"" when this kind has none."""
        opening = self._shape.role_chunk()
        return self._choice(choice, opening) if opening else b""

    def delta(self, choice: int, delta: pb.Delta) -> bytes:
        """The event of new output; b"" when there is nothing to show."""
        if delta.logprobs:
            return self._choice(choice, self._shape.delta_chunk(choice, delta.text, list(delta.logprobs)))
        text = delta.text
        if not text:
            return b""
        return self._text_before[choice] + orjson.dumps(text) + self._text_after

    def finish(self, choice: int, finished: pb.Finished) -> bytes:
        """The event that closes a choice."""
        event = self._choice(choice, self._shape.finish_chunk(finish_reason_name(finished.finish_reason)))
        return _with_failovers(event, finished.failovers)

    def usage(self, usage: pb.Usage, failovers: Iterable[pb.Failover]) -> bytes:
        """The event that closes a stream with include_usage."""
        event = self._head + b',"choices":[],"usage":' + orjson.dumps(usage_object(usage)) + _END
        return _with_failovers(event, failovers)

    def _choice(self, choice: int, members: dict[str, Any]) -> bytes:
        return self._before[choice] + b"," + orjson.dumps(members)[1:] + self._after


def _with_failovers(event: bytes, failovers: Iterable[pb.Failover]) -> bytes:
    member = failovers_member(failovers)
    return event.removesuffix(_END) + b"," + orjson.dumps(member)[1:] + b"\n\n" if member else event


def error_event(error: dict[str, Any]) -> bytes:
    """The event of an error in the middle of a stream."""
    return b"data: " + orjson.dumps(error) + b"\n\n"
