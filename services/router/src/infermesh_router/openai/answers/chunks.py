"""Encodes the chunks of a streamed answer as server-sent events, and the parts that all answers share.

A token's text is escaped and put between two constants, so that no dictionary is built for it.
"""

from collections.abc import Iterable
from typing import Any

import orjson

from infermesh.inference.v1 import inference_pb2 as pb
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


def usage_object(usage: pb.Usage) -> dict[str, Any]:
    """The member `usage`."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


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
        self._usage = b',"usage":null}\n\n' if job.include_usage else _END
        self._before = [self._head + b',"choices":[{"index":%d' % choice for choice in range(job.choices)]
        self._text_before = [before + shape.text_before for before in self._before]
        self._after = b"]" + self._usage
        self._text_after = shape.text_after + self._after

    def begin(self, choice: int) -> bytes:
        """The event that opens a choice; b"" if there is none."""
        opening = self._shape.role_chunk()
        return self._choice(choice, opening) if opening else b""

    def delta(self, choice: int, delta: pb.Delta) -> bytes:
        """The event of new output; b"" if it has no text yet."""
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
        """The event that closes a stream with `include_usage`."""
        event = self._head + b',"choices":[],"usage":' + orjson.dumps(usage_object(usage)) + _END
        return _with_failovers(event, failovers)

    def _choice(self, choice: int, members: dict[str, Any]) -> bytes:
        return self._before[choice] + b"," + orjson.dumps(members)[1:] + self._after


def _with_failovers(event: bytes, failovers: Iterable[pb.Failover]) -> bytes:
    member = failovers_member(failovers)
    return event.removesuffix(_END) + b"," + orjson.dumps(member)[1:] + b"\n\n" if member else event


def error_event(error: dict[str, Any]) -> bytes:
    """The event that tells an error in the middle of a stream."""
    return b"data: " + orjson.dumps(error) + b"\n\n"
