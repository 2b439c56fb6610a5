"""Builds the answers of /v1/chat/completions."""

from typing import Any

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.answers.chunks import head
from infermesh_router.openai.answers.logprobs import chat_logprobs, vllm_prompt_logprobs
from infermesh_router.openai.job import Job, WholeChoice


class ChatShape:
    """A `Shape` without state."""

    chunk_object = "chat.completion.chunk"
    text_before = b',"delta":{"content":'
    text_after = b'},"logprobs":null,"finish_reason":null}'

    def opening_chunk(self, job: Job, choice: int, prompt: pb.Started) -> dict[str, Any] | None:  # noqa: ARG002
        """Tells the role."""
        return {"delta": {"role": "assistant", "content": ""}, "logprobs": None, "finish_reason": None}

    def prompt_members(self, job: Job, prompt: pb.Started) -> dict[str, Any]:
        """The prompt's token ids and log probabilities, which vLLM puts beside the choices."""
        members: dict[str, Any] = {}
        if job.token_ids:
            members["prompt_token_ids"] = list(prompt.prompt_token_ids)
        if job.prompt_logprobs is not None:
            members["prompt_logprobs"] = vllm_prompt_logprobs(prompt.prompt_logprobs, job.prompt_logprobs)
        return members

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
                    "message": choice.message or {"role": "assistant", "content": choice.text, "refusal": None},
                    "logprobs": _logprobs(choice.logprobs) if job.logprobs else None,
                    "finish_reason": choice.finish_reason,
                    **({"token_ids": choice.token_ids} if job.token_ids else {}),
                }
                for index, choice in enumerate(choices)
            ]
        }


def _logprobs(tokens: list[pb.TokenLogprob]) -> dict[str, Any]:
    return {"content": chat_logprobs(tokens), "refusal": None}
