"""What doctor must know of each API: the fields that no request can do without, its limit, and how its streams end."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

LIMIT_TOKENS = 8
"""Longest answer that doctor asks for."""
COMPANIONS = {
    "tools": ("tool_choice", "parallel_tool_calls"),
    "stream": ("stream_options",),
    "logprobs": ("top_logprobs",),
}
"""Fields that have a meaning only beside another one, and are left out with it."""


@dataclass(frozen=True, slots=True)
class Dialect:
    """One kind of request."""

    required: frozenset[str] = frozenset({"model"})
    """Top-level fields that no request can do without."""
    limits: tuple[str, ...] = ()
    """Top-level fields that limit the answer; a request that has none of them gets the first."""
    ends: Callable[[Mapping[str, Any]], bool] | None = None
    """Whether an event of a stream is its last one. None: the stream ends with [DONE]."""
    limit_in_options: bool = False
    """Whether the limit is a member of `options`."""
    streams_by_default: bool = False


_CHAT = Dialect(frozenset({"model", "messages"}), ("max_tokens", "max_completion_tokens"))
_COMPLETION = Dialect(frozenset({"model", "prompt"}), ("max_tokens",))
_RESPONSE = Dialect(
    frozenset({"model", "input"}),
    ("max_output_tokens",),
    ends=lambda event: event.get("type") in ("response.completed", "response.incomplete"),
)
_MESSAGE = Dialect(
    frozenset({"model", "messages", "max_tokens"}),
    ("max_tokens",),
    ends=lambda event: event.get("type") == "message_stop",
)


def _ollama(asked: str) -> Dialect:
    return Dialect(
        frozenset({"model", asked}),
        ("num_predict",),
        ends=lambda event: event.get("done") is True,
        limit_in_options=True,
        streams_by_default=True,
    )


_BY_END: Mapping[str, Dialect] = {
    "/chat/completions": _CHAT,
    "/completions": _COMPLETION,
    "/responses": _RESPONSE,
    "/messages": _MESSAGE,
    "/messages/count_tokens": Dialect(frozenset({"model", "messages"})),
    "/api/chat": _ollama("messages"),
    "/api/generate": _ollama("prompt"),
}


def dialect_of(path: str) -> Dialect:
    """The kind of request that a path takes; a query is not looked at."""
    bare = path.partition("?")[0]
    fitting = [end for end in _BY_END if bare.endswith(end)]
    return _BY_END[max(fitting, key=len)] if fitting else Dialect()


def prepare(body: Mapping[str, Any], dialect: Dialect, model: str) -> dict[str, Any]:
    """The recorded body for this model, with a short answer."""
    made = {**body, "model": model} if "model" in body else dict(body)
    if dialect.limit_in_options:
        made["options"] = {**made.get("options", {}), **dict.fromkeys(dialect.limits, LIMIT_TOKENS)}
    elif dialect.limits:
        named = next((name for name in dialect.limits if name in made), dialect.limits[0])
        made[named] = min(made.get(named) or LIMIT_TOKENS, LIMIT_TOKENS)
    return made


def is_streamed(body: Mapping[str, Any], dialect: Dialect) -> bool:
    """Whether the answer is to be a stream."""
    return bool(body.get("stream", dialect.streams_by_default))
