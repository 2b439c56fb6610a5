"""Makes the object `response`: what the request decides, what was generated, how it ended."""

import time
from typing import Any

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.answers.chunks import failovers_member
from infermesh_router.openai.answers.parsed import Answer
from infermesh_router.openai.answers.usage import TimingsSum
from infermesh_router.openai.job import Job
from infermesh_router.openai.sampling import show_sampling
from infermesh_router.responses.told import Told

_KNOWN_CODES = {"RESOURCE_EXHAUSTED": "rate_limit_exceeded"}


def response_object(
    job: Job,
    told: Told,
    answer: Answer,
    *,
    output: list[dict[str, Any]],
    status: str,
    error: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """The response as it is now. `output`: its items."""
    ended = status != "in_progress"
    cut = {"reason": "max_output_tokens"} if status == "incomplete" else None
    members = {
        "id": job.id,
        "object": "response",
        "created_at": job.created_s,
        "status": status,
        "completed_at": int(time.time()) if status == "completed" else None,
        "error": error,
        "incomplete_details": cut,
        "output": output,
        "store": told.keeps,
        "usage": usage_object(answer.usage, answer.reasoning_tokens) if ended and error is None else None,
        **told.members,
        **_sampling(told, answer.started),
    }
    timings = TimingsSum()
    timings.add(answer.finished)
    return members | timings.member | failovers_member(answer.finished.failovers)


def usage_object(usage: pb.Usage, reasoning_tokens: int) -> dict[str, Any]:
    """The member `usage`."""
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": reasoning_tokens},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }


def final_status(answer: Answer) -> str:
    """How an answer that has ended did."""
    return "incomplete" if answer.finish_reason == "length" else "completed"


def failure(reason: str, message: str) -> dict[str, Any]:
    """The member `error` of a response that failed."""
    return {"code": _KNOWN_CODES.get(reason, "server_error"), "message": message}


def _sampling(told: Told, started: pb.Started) -> dict[str, Any]:
    """The temperature and top_p in use; those that the request left open are the model's own."""
    in_use = show_sampling(started.in_use)
    names = ("temperature", "top_p")
    return {name: told.members[name] if told.members[name] is not None else in_use.get(name, 1.0) for name in names}
