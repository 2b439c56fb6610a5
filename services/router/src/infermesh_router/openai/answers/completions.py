"""Builds the answers of /v1/completions."""

from collections import defaultdict
from typing import Any

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.answers.chunks import head
from infermesh_router.openai.answers.logprobs import LegacyLogprobs, join_legacy, vllm_prompt_logprobs
from infermesh_router.openai.job import Job, WholeChoice


class CompletionShape:
    """A `Shape` that counts the text offsets of each choice."""

    chunk_object = "text_completion"
    text_before = b',"text":'
    text_after = b',"logprobs":null,"finish_reason":null}'

    def __init__(self, *, echo: bool = False, top: int | None = None) -> None:
        """`echo`: whether choices begin with the prompt. `top`: alternatives of each token; None: no logprobs."""
        self._echo = echo
        self._top = top
        self._logprobs: defaultdict[int, LegacyLogprobs] = defaultdict(LegacyLogprobs)

    def opening_chunk(self, job: Job, choice: int, prompt: pb.Started) -> dict[str, Any] | None:
        """The echoed prompt, and what else was asked of it; None if there is nothing to tell."""
        members = _prompt_of(job, prompt)
        if not self._echo and not members:
            return None
        text = prompt.prompt_text if self._echo else ""
        return {"text": text, "logprobs": self._echoed(choice, prompt), "finish_reason": None, **members}

    def prompt_members(self, job: Job, prompt: pb.Started) -> dict[str, Any]:  # noqa: ARG002 - a shape's signature
        """Nothing: vLLM puts it into the choices."""
        return {}

    def delta_chunk(self, choice: int, text: str, tokens: list[pb.TokenLogprob]) -> dict[str, Any]:
        """Tells text and log probabilities."""
        logprobs = self._logprobs[choice].convert(tokens) if tokens else None
        return {"text": text, "logprobs": logprobs, "finish_reason": None}

    def finish_chunk(self, finish_reason: str) -> dict[str, Any]:
        """Tells why the choice ended."""
        return {"text": "", "logprobs": None, "finish_reason": finish_reason}

    def whole(self, job: Job, choices: list[WholeChoice]) -> dict[str, Any]:
        """The whole answer except its usage."""
        return head(job, "text_completion") | {
            "choices": [self._whole_choice(job, index, choice) for index, choice in enumerate(choices)]
        }

    def _whole_choice(self, job: Job, index: int, choice: WholeChoice) -> dict[str, Any]:
        text = "" if job.prompt_only else choice.text
        logprobs = self._echoed(index, choice.prompt)
        if job.logprobs and not job.prompt_only:
            output = self._logprobs[index].convert(choice.logprobs)
            logprobs = output if logprobs is None else join_legacy(logprobs, output)
        return {
            "index": index,
            "text": choice.prompt.prompt_text + text if self._echo else text,
            "logprobs": logprobs,
            "finish_reason": choice.finish_reason,
            **_prompt_of(job, choice.prompt),
            **({"token_ids": choice.token_ids} if job.token_ids else {}),
        }

    def _echoed(self, choice: int, prompt: pb.Started) -> dict[str, list[Any]] | None:
        """The log probabilities of an echoed prompt."""
        if not self._echo or self._top is None:
            return None
        return self._logprobs[choice].echo(prompt.prompt_text, prompt.prompt_logprobs, self._top)


def _prompt_of(job: Job, prompt: pb.Started) -> dict[str, Any]:
    """What a choice tells of its prompt, as in vLLM."""
    members: dict[str, Any] = {}
    if job.token_ids:
        members["prompt_token_ids"] = list(prompt.prompt_token_ids)
    if job.prompt_logprobs is not None:
        members["prompt_logprobs"] = vllm_prompt_logprobs(prompt.prompt_logprobs, job.prompt_logprobs)
    return members
