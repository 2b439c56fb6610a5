"""Owns the answers of /v1/chat/completions. Knows no I/O."""

from typing import Any

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.convert import Job
from infermesh_router.openai.logprobs import chat_logprobs
from infermesh_router.openai.shape import Answer, head


class ChatShape:
    """A `Shape`."""

    chunk_object = "chat.completion.chunk"
    text_before = b',"delta":{"content":'
    text_after = b'},"logprobs":null,"finish_reason":null}'

    def role_chunk(self) -> dict[str, Any] | None:
        """Says who speaks."""
        return {"delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}

    def delta_chunk(self, choice: int, text: str, tokens: list[pb.TokenLogprob]) -> dict[str, Any]:  # noqa: ARG002
        """Text with log probabilities."""
        return {"delta": {"content": text}, "logprobs": _logprobs(tokens), "finish_reason": None}

    def finish_chunk(self, finish_reason: str) -> dict[str, Any]:
        """Says why it ended."""
        return {"delta": {}, "logprobs": None, "finish_reason": finish_reason}

    def whole(self, job: Job, answers: list[Answer]) -> dict[str, Any]:
        """The whole answer."""
        return head(job, "chat.completion") | {
            "choices": [
                {
                    "index": index,
                    "message": {"role": "assistant", "content": answer.text, "refusal": None},
                    "logprobs": _logprobs(answer.logprobs) if job.logprobs else None,
                    "finish_reason": answer.finish_reason,
                }
                for index, answer in enumerate(answers)
            ]
        }


def _logprobs(tokens: list[pb.TokenLogprob]) -> dict[str, Any]:
    return {"content": chat_logprobs(tokens), "refusal": None}
