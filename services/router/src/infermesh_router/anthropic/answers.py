"""Makes Anthropic's messages of answers: content blocks, why it ended, and usage."""

from base64 import b64encode
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import jiter

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.anthropic.convert import Limits
from infermesh_router.openai.answers.chunks import failovers_member
from infermesh_router.openai.answers.parsed import Answer, Call
from infermesh_router.openai.job import Job

_SIGNATURE_BYTES = 48


@dataclass(frozen=True, slots=True)
class MessageMaker:
    """Makes the message of one request's answer."""

    job: Job
    limits: Limits

    def whole(self, answer: Answer) -> dict[str, Any]:
        """The whole message."""
        usage = usage_object(answer) | {"service_tier": "standard"}
        return (
            self._head(_blocks(answer))
            | self.ending(answer)
            | {"usage": usage}
            | failovers_member(answer.finished.failovers)
        )

    def opening(self, answer: Answer) -> dict[str, Any]:
        """The message before it has content."""
        usage = _tokens(pb.Usage(prompt_tokens=answer.started.prompt_tokens)) | {"service_tier": "standard"}
        return self._head([]) | {"stop_reason": None, "stop_sequence": None, "usage": usage}

    def ending(self, answer: Answer) -> dict[str, Any]:
        """Why the answer ended."""
        at_stop = answer.finish_reason == "stop" and answer.stop in self.limits.stop_sequences
        return {"stop_reason": self._reason(answer, at_stop), "stop_sequence": answer.stop if at_stop else None}

    def _head(self, content: list[dict[str, Any]]) -> dict[str, Any]:
        return {
            "id": self.job.id,
            "type": "message",
            "role": "assistant",
            "model": self.job.model,
            "content": content,
        }

    def _reason(self, answer: Answer, at_stop: bool) -> str:
        if at_stop:
            return "stop_sequence"
        if answer.finish_reason == "tool_calls":
            return "tool_use"
        if answer.finish_reason != "length":
            return "end_turn"
        is_full = answer.usage.completion_tokens < self.limits.max_tokens
        return "model_context_window_exceeded" if is_full else "max_tokens"


def usage_object(answer: Answer) -> dict[str, Any]:
    """The tokens used."""
    return _tokens(answer.usage) | {"output_tokens_details": {"thinking_tokens": answer.reasoning_tokens}}


def _tokens(usage: pb.Usage) -> dict[str, Any]:
    """The tokens used. Those of the prompt that were cached count apart from the others."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }


def call_id(id_: str) -> str:
    """The id of a tool call, as Anthropic's look."""
    return f"toolu_{id_.removeprefix('call_')}"


def signature(thinking: str) -> str:
    """What stands where Anthropic signs thinking: clients keep it and send it back. Nobody checks it."""
    return b64encode(blake2b(thinking.encode("utf-8", "replace"), digest_size=_SIGNATURE_BYTES).digest()).decode()


def text_block(text: str) -> dict[str, Any]:
    """A block of text."""
    return {"type": "text", "text": text}


def _blocks(answer: Answer) -> list[dict[str, Any]]:
    """The content. An answer without any has an empty text, since clients read the first block."""
    blocks: list[dict[str, Any]] = []
    if thinking := answer.reasoning:
        blocks.append({"type": "thinking", "thinking": thinking, "signature": signature(thinking)})
    if answer.text.strip() or (answer.text and not answer.calls):
        blocks.append(text_block(answer.text))
    blocks += [
        {"type": "tool_use", "id": call_id(call.id), "name": call.name, "input": _input(call)} for call in answer.calls
    ]
    return blocks or [text_block("")]


def _input(call: Call) -> dict[str, Any]:
    """The arguments of a call; of those that were cut off, what is there."""
    try:
        found = jiter.from_json(call.arguments.encode() or b"{}", partial_mode=not call.complete)
    except ValueError:  # the model wrote no JSON
        return {}
    return found if isinstance(found, dict) else {}
