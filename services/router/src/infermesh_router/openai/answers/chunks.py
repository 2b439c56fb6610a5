"""Encodes the chunks of a streamed answer as server-sent events, and the parts that all answers share.

A token's text is escaped and put between two constants, so that no dictionary is built for it.
"""

from collections.abc import Iterable
from typing import Any

import orjson

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.answers.running_usage import RunningUsage
from infermesh_router.openai.answers.usage import usage_object
from infermesh_router.openai.job import Job

DONE = b"data: [DONE]\n\n"
_END = b"}\n\n"

_FINISH_REASONS = {
    pb.FINISH_REASON_STOP: "stop",
    pb.FINISH_REASON_LENGTH: "length",
    pb.FINISH_REASON_TOOL_CALLS: "tool_calls",
}


def head(job: Job, kind: str) -> dict[str, Any]:
    """The members that every answer and every chunk begins with."""
    return {
        "id": job.id,
        "object": kind,
        "created": job.created_s,
        "model": job.model,
        "system_fingerprint": None,
    }


def comment(text: str) -> bytes:
    """A comment in a stream of server-sent events: people see it, clients skip it."""
    return b": %s\n\n" % " ".join(text.split()).encode("utf-8", "replace")


def failovers_member(failovers: Iterable[pb.Failover]) -> dict[str, Any]:
    """The member `infermesh` of an answer or a chunk: how its stream moved. Empty if it did not move."""
    moves = [{"from": move.from_endpoint, "to": move.to_endpoint, "reason": move.reason} for move in failovers]
    return {"infermesh": {"failovers": moves}} if moves else {}


def finish_reason_name(reason: pb.FinishReason) -> str:
    """OpenAI's name for the reason; "stop" if it has none."""
    return _FINISH_REASONS.get(reason, "stop")


class ChunkEncoder:
    """Encodes the events of one stream."""

    def __init__(self, job: Job) -> None:
        self._shape = shape = job.shape
        self._head = b"data: " + orjson.dumps(head(job, shape.chunk_object))[:-1]
        self._job = job
        self._usage = b',"usage":null}\n\n' if job.include_usage else _END
        self._running = RunningUsage() if job.running_usage else None
        self.is_detailed = job.token_ids or job.running_usage or job.prompt_only
        """Whether `detailed_delta` makes the events of new output, rather than `delta`."""
        self._before = [self._head + b',"choices":[{"index":%d' % choice for choice in range(job.choices)]
        self._text_before = [before + shape.text_before for before in self._before]
        self._after = b"]" + self._usage
        self._text_after = shape.text_after + self._after

    def begin(self, prompt: pb.Started, choices: range) -> bytes:
        """The events that open the choices of a prompt; b"" if there are none."""
        if self._running is not None:
            self._running.begin(prompt)
        beside = self._shape.prompt_members(self._job, prompt)
        return b"".join(self._open(choice, prompt, beside) for choice in choices)

    def delta(self, choice: int, delta: pb.Delta) -> bytes:
        """The event of new output; b"" if it has no text yet."""
        if delta.logprobs:
            return self._choice(choice, self._shape.delta_chunk(choice, delta.text, list(delta.logprobs)))
        text = delta.text
        if not text:
            return b""
        return self._text_before[choice] + orjson.dumps(text) + self._text_after

    def detailed_delta(self, choice: int, delta: pb.Delta) -> bytes:
        """The event with the token ids and the usage so far, as far as they are wanted."""
        if self._running is not None:
            self._running.take(delta)
        if self._job.prompt_only:
            return b""
        if not self._job.token_ids:
            return self._counted(self.delta(choice, delta))
        members = self._shape.delta_chunk(choice, delta.text, list(delta.logprobs))
        if not delta.logprobs:
            members["logprobs"] = None
        return self._counted(self._choice(choice, members | {"token_ids": list(delta.token_ids)}))

    def finish(self, choice: int, finished: pb.Finished) -> bytes:
        """The event that closes a choice."""
        event = self._choice(choice, self._shape.finish_chunk(finish_reason_name(finished.finish_reason)))
        return with_members(self._counted(event), failovers_member(finished.failovers))

    def count(self, delta: pb.Delta) -> None:
        """Counts new output, if each chunk has the usage so far."""
        if self._running is not None:
            self._running.take(delta)

    def text(self, choice: int, text: str) -> bytes:
        """The event of text alone."""
        return self._counted(self._text_before[choice] + orjson.dumps(text) + self._text_after)

    def chunk(self, choice: int, members: dict[str, Any]) -> bytes:
        """The event of a choice with these members."""
        return self._counted(self._choice(choice, members))

    def usage(self, usage: pb.Usage, failovers: Iterable[pb.Failover], reasoning_tokens: int = 0) -> bytes:
        """The event that closes a stream with `include_usage`."""
        told = usage_object(usage, reasoning_tokens)
        event = self._head + b',"choices":[],"usage":' + orjson.dumps(told) + _END
        return with_members(event, failovers_member(failovers))

    def _open(self, choice: int, prompt: pb.Started, beside: dict[str, Any]) -> bytes:
        opening = self._shape.opening_chunk(self._job, choice, prompt)
        return with_members(self._counted(self._choice(choice, opening)), beside) if opening else b""

    def _counted(self, event: bytes) -> bytes:
        return event if self._running is None else self._running.put_in(event, instead_of=self._usage)

    def _choice(self, choice: int, members: dict[str, Any]) -> bytes:
        return self._before[choice] + b"," + orjson.dumps(members)[1:] + self._after


def with_members(event: bytes, members: dict[str, Any]) -> bytes:
    """The event with more members at its end."""
    return event.removesuffix(_END) + b"," + orjson.dumps(members)[1:] + b"\n\n" if members else event


def data_event(document: dict[str, Any]) -> bytes:
    """A server-sent event that has no name."""
    return b"data: " + orjson.dumps(document) + b"\n\n"
