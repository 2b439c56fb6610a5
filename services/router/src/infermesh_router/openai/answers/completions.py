"""Builds the answers of /v1/completions."""

from collections import defaultdict
from typing import Any

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.answers.chunks import head
from infermesh_router.openai.answers.logprobs import LegacyLogprobs
from infermesh_router.openai.job import Job, WholeChoice


class CompletionShape:
    """A `Shape` that counts the text offsets of each choice."""

    chunk_object = "text_completion"
    text_before = b',"text":'
    text_after = b',"logprobs":null,"finish_reason":null}'

    def __init__(self) -> None:
        self._logprobs: defaultdict[int, LegacyLogprobs] = defaultdict(LegacyLogprobs)

    def role_chunk(self) -> dict[str, Any] | None:
        """None: nothing opens a choice."""
        return None

    def delta_chunk(self, choice: int, text: str, tokens: list[pb.TokenLogprob]) -> dict[str, Any]:
        """Tells text and log probabilities."""
        return {"text": text, "logprobs": self._logprobs[choice].convert(tokens), "finish_reason": None}

    def finish_chunk(self, finish_reason: str) -> dict[str, Any]:
        """Tells why the choice ended."""
        return {"text": "", "logprobs": None, "finish_reason": finish_reason}

    def whole(self, job: Job, choices: list[WholeChoice]) -> dict[str, Any]:
        """The whole answer except its usage."""
        return head(job, "text_completion") | {
            "choices": [
                {
                    "index": index,
                    "text": choice.text,
                    "logprobs": LegacyLogprobs().convert(choice.logprobs) if job.logprobs else None,
                    "finish_reason": choice.finish_reason,
                }
                for index, choice in enumerate(choices)
            ]
        }
