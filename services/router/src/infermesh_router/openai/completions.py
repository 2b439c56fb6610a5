"""Owns the answers of /v1/completions. Knows no I/O."""

from collections import defaultdict
from typing import Any

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.convert import Job
from infermesh_router.openai.logprobs import LegacyLogprobs
from infermesh_router.openai.shape import Answer, head


class CompletionShape:
    """A `Shape`; one for each stream, since text offsets count from its start."""

    chunk_object = "text_completion"
    text_before = b',"text":'
    text_after = b',"logprobs":null,"finish_reason":null}'

    def __init__(self) -> None:
        self._logprobs: defaultdict[int, LegacyLogprobs] = defaultdict(LegacyLogprobs)

    def role_chunk(self) -> dict[str, Any] | None:
        """Nothing opens a choice."""
        return None

    def delta_chunk(self, choice: int, text: str, tokens: list[pb.TokenLogprob]) -> dict[str, Any]:
        """Text with log probabilities."""
        return {"text": text, "logprobs": self._logprobs[choice].convert(tokens), "finish_reason": None}

    def finish_chunk(self, finish_reason: str) -> dict[str, Any]:
        """Says why it ended."""
        return {"text": "", "logprobs": None, "finish_reason": finish_reason}

    def whole(self, job: Job, answers: list[Answer]) -> dict[str, Any]:
        """The whole answer."""
        return head(job, "text_completion") | {
            "choices": [
                {
                    "index": index,
                    "text": answer.text,
                    "logprobs": LegacyLogprobs().convert(answer.logprobs) if job.logprobs else None,
                    "finish_reason": answer.finish_reason,
                }
                for index, answer in enumerate(answers)
            ]
        }
