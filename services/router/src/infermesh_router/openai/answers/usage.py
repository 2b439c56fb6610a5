"""What an answer tells of the tokens it used and the time they took."""

from typing import Any

from infermesh.inference.v1 import inference_pb2 as pb


def usage_object(usage: pb.Usage, reasoning_tokens: int = 0) -> dict[str, Any]:
    """The member `usage`. `reasoning_tokens`: how many of the completion's tokens the model thought with."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
        "completion_tokens_details": {
            "reasoning_tokens": reasoning_tokens,
            "accepted_prediction_tokens": usage.accepted_prediction_tokens,
            "rejected_prediction_tokens": usage.rejected_prediction_tokens,
        },
    }


def add_usage(total: pb.Usage, usage: pb.Usage) -> None:
    """Adds `usage` to `total`."""
    total.prompt_tokens += usage.prompt_tokens
    total.completion_tokens += usage.completion_tokens
    total.cached_tokens += usage.cached_tokens
    total.accepted_prediction_tokens += usage.accepted_prediction_tokens
    total.rejected_prediction_tokens += usage.rejected_prediction_tokens


class TimingsSum:
    """The member `timings`, in llama.cpp's shape, over all choices. Choices run beside each other, so the longest
    time counts."""

    def __init__(self) -> None:
        self._total: pb.Timings | None = None

    def add(self, finished: pb.Finished) -> None:
        """Takes the end of a choice."""
        if not finished.HasField("timings"):
            return
        total = self._total = self._total or pb.Timings()
        timings = finished.timings
        total.prompt_tokens += timings.prompt_tokens
        total.completion_tokens += timings.completion_tokens
        total.drafted_tokens += timings.drafted_tokens
        total.accepted_tokens += timings.accepted_tokens
        total.prompt_ms = max(total.prompt_ms, timings.prompt_ms)
        total.completion_ms = max(total.completion_ms, timings.completion_ms)

    @property
    def member(self) -> dict[str, Any]:
        """`timings` and its value; empty if no endpoint measured it."""
        if self._total is None:
            return {}
        total = self._total
        prompt = _rates("prompt", total.prompt_tokens, total.prompt_ms)
        predicted = _rates("predicted", total.completion_tokens, total.completion_ms)
        guesses = {"draft_n": total.drafted_tokens, "draft_n_accepted": total.accepted_tokens}
        return {"timings": prompt | predicted | (guesses if total.drafted_tokens else {})}


def _rates(name: str, tokens: int, milliseconds: float) -> dict[str, Any]:
    return {
        f"{name}_n": tokens,
        f"{name}_ms": round(milliseconds, 3),
        f"{name}_per_token_ms": round(milliseconds / tokens, 3) if tokens else None,
        f"{name}_per_second": round(1000 * tokens / milliseconds, 3) if milliseconds else None,
    }
