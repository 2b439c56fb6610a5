"""Adds the usage so far to each chunk of a stream, as vLLM's continuous_usage_stats."""

from typing import Any

import orjson

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.answers.usage import usage_object


class RunningUsage:
    """Counts a stream's tokens as they come."""

    def __init__(self) -> None:
        self._usage = pb.Usage()

    def begin(self, prompt: pb.Started) -> None:
        """Counts a prompt."""
        self._usage.prompt_tokens += prompt.prompt_tokens

    def take(self, delta: pb.Delta) -> None:
        """Counts new output."""
        self._usage.completion_tokens += len(delta.token_ids)

    def put_in(self, event: bytes, instead_of: bytes) -> bytes:
        """The event with the usage in the place of its last member."""
        if not event:
            return event
        member: dict[str, Any] = {"usage": usage_object(self._usage)}
        return event.removesuffix(instead_of) + b"," + orjson.dumps(member)[1:] + b"\n\n"
