"""Builds the answers of /v1/chat/completions."""

from typing import Any

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.answers.chunks import head
from infermesh_router.openai.answers.logprobs import chat_logprobs
from infermesh_router.openai.job import Job, WholeChoice


class ChatShape:
    """A `Shape` without state."""

    chunk_object = "chat.completion.chunk"
    text_before = b',"delta":{"content":'
    text_after = b'},"logprobs":null,"finish_reason":null}'

    def role_chunk(self) -> dict[str, Any] | None:
        """Tells the role."""
        return {"delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}

    def delta_chunk(self, choice: int, text: str, tokens: list[pb.TokenLogprob]) -> dict[str, Any]:  # noqa: ARG002
        """Tells text and log probabilities."""
        return {"delta": {"content": text}, "logprobs": _logprobs(tokens), "finish_reason": None}

    def finish_chunk(self, finish_reason: str) -> dict[str, Any]:
        """Tells why the choice ended."""
        return {"delta": {}, "logprobs": None, "finish_reason": finish_reason}

    def whole(self, job: Job, choices: list[WholeChoice]) -> dict[str, Any]:
        """The whole answer except its usage."""
        return head(job, "chat.completion") | {
            "choices": [
                {
                    "index": index,
                    "message": {"role": "assistant", "content": choice.text, "refusal": None},
                    "logprobs": _logprobs(choice.logprobs) if job.logprobs else None,
                    "finish_reason": choice.finish_reason,
                }
                for index, choice in enumerate(choices)
            ]
        }


def _logprobs(tokens: list[pb.TokenLogprob]) -> dict[str, Any]:
    return {"content": chat_logprobs(tokens), "refusal": None}
