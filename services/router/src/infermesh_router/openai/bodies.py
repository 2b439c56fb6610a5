"""Takes the JSON text out of an HttpBody message, within the bounds of what a body may consist of."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from infermesh_router.images.rules import ImageRules
from infermesh_router.openai.packed_body import read_body
from infermesh_router.requests.bounds import Bounds
from infermesh_runtime.errors import InvalidArgument

_MAX_FIELDS = 1000
_MAX_ENTRIES = 1 << 19  # of logit_bias: one for each token of the largest vocabularies


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyRules:
    """What bodies may contain."""

    ignore_unknown: bool
    max_bytes: int
    bounds: Bounds
    images: ImageRules = field(default_factory=ImageRules)


def take_body(message: bytes, rules: BodyRules) -> bytes:
    """The JSON text in an HttpBody message, within the bounds."""
    body = read_body(message)
    if len(body) > rules.max_bytes:
        raise InvalidArgument(
            f"The body has {len(body)} bytes; at most {rules.max_bytes} are allowed.", reason="REQUEST_TOO_LARGE"
        )
    rules.bounds.check_json(body)
    return body


def check_conversation(
    messages: object, bounds: Bounds, *, before: int = 0, count: Callable[[object], int] | None = None
) -> None:
    """Refuses conversations of too many messages or parts before the schema looks at each of them.

    `before`: messages that the router adds. `count`: the parts in a message; without it, those of its `content`.
    """
    if isinstance(messages, list):
        bounds.check_messages(len(messages) + before)
        bounds.check_parts(sum(map(count or _count_parts, messages)))


def _count_parts(message: object) -> int:
    content = message.get("content") if isinstance(message, dict) else None
    return len(content) if isinstance(content, list) else 0


def check_document(document: dict[str, Any], model: str = "") -> None:
    """Refuses objects with so many fields that the schema would find millions of problems; sets the model."""
    if model:
        document["model"] = model
    largest = max((len(value) for value in document.values() if isinstance(value, dict)), default=0)
    if len(document) > _MAX_FIELDS or largest > _MAX_ENTRIES:
        raise InvalidArgument(
            f"The body has {len(document)} fields, the largest of them {largest} entries; at most {_MAX_FIELDS} and "
            f"{_MAX_ENTRIES} are allowed.",
            reason="REQUEST_TOO_COMPLEX",
        )
