"""Converts bodies of OpenAI's API to jobs: small ones at once, large ones in another process."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import DecodeError

from infermesh_router.openai.convert.chat import chat_job
from infermesh_router.openai.convert.completion import completion_job
from infermesh_router.openai.job import Job
from infermesh_router.openai.parse import parse_body
from infermesh_router.openai.schema.chat import ChatRequest
from infermesh_router.openai.schema.completion import CompletionRequest
from infermesh_router.openai.schema.hints import list_hints
from infermesh_router.requests.bounds import Bounds, is_light_json
from infermesh_router.requests.parsing_pool import ParsingPool
from infermesh_runtime.errors import InvalidArgument

_MAX_FIELDS = 1000
_MAX_ENTRIES = 1 << 19  # of logit_bias: one for each token of the largest vocabularies


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyRules:
    """What bodies may contain."""

    ignore_unknown: bool
    max_bytes: int
    bounds: Bounds


@dataclass(frozen=True, slots=True)
class Converted:
    """A job, and the paths of the fields of its body that have no effect."""

    job: Job
    ignored: tuple[str, ...]
    extra: Any = None
    """What the dialect's answer needs of the body besides. It must be possible to send it to another process."""


Convert = Callable[[bytes, BodyRules, str], Converted]
"""Converts a serialised HttpBody; the text is the model that counts instead of the body's, if it is not empty."""


class BodyConverter:
    """Converts serialised HttpBody messages without holding up the event loop. Its methods raise InvalidArgument."""

    def __init__(self, pool: ParsingPool, rules: BodyRules) -> None:
        self._pool = pool
        self._rules = rules

    async def chat(self, message: bytes, model: str = "") -> Converted:
        """The job of a body of /v1/chat/completions. `model` counts instead of the body's, if it is not empty."""
        return await self.convert(convert_chat, message, model)

    async def completion(self, message: bytes, model: str = "") -> Converted:
        """The job of a body of /v1/completions. `model` counts instead of the body's, if it is not empty."""
        return await self.convert(convert_completion, message, model)

    async def convert(self, convert: Convert, message: bytes, model: str = "") -> Converted:
        """The job of another dialect's body. `convert` must be a function of a module."""
        if is_light_json(message):
            return convert(message, self._rules, model)
        converted, bodies = await self._pool.run(_convert_heavy, message, convert, self._rules, model)
        calls = zip(converted.job.calls, bodies, strict=True)
        job = replace(converted.job, calls=tuple(replace(call, body=body) for call, body in calls))
        return replace(converted, job=job)


def _convert_heavy(message: bytes, convert: Convert, rules: BodyRules, model: str) -> tuple[Converted, list[bytes]]:
    """The job with calls that have no bodies, and their bodies."""
    converted = convert(message, rules, model)
    job = replace(converted.job, calls=tuple(replace(call, body=b"") for call in converted.job.calls))
    return replace(converted, job=job), [call.body for call in converted.job.calls]


def convert_chat(message: bytes, rules: BodyRules, model: str = "") -> Converted:
    """Converts a body of /v1/chat/completions. Raises InvalidArgument."""

    def check(document: dict[str, Any]) -> None:
        _check_fields(document, model)
        messages = document.get("messages")
        if isinstance(messages, list):
            rules.bounds.check_messages(len(messages))
            rules.bounds.check_parts(sum(map(_count_parts, messages)))

    parsed = parse_body(ChatRequest, take_body(message, rules), ignore_unknown=rules.ignore_unknown, check=check)
    return Converted(chat_job(parsed.request), parsed.ignored + list_hints(parsed.request))


def convert_completion(message: bytes, rules: BodyRules, model: str = "") -> Converted:
    """Converts a body of /v1/completions. Raises InvalidArgument."""
    check = partial(_check_fields, model=model)
    body = take_body(message, rules)
    parsed = parse_body(CompletionRequest, body, ignore_unknown=rules.ignore_unknown, check=check)
    return Converted(completion_job(parsed.request), parsed.ignored + list_hints(parsed.request))


def take_body(message: bytes, rules: BodyRules) -> bytes:
    """The JSON text in an HttpBody message, within the bounds."""
    try:
        body = HttpBody.FromString(message).data
    except DecodeError as error:
        raise InvalidArgument("The request is not a valid protobuf message.", reason="MALFORMED_MESSAGE") from error
    if len(body) > rules.max_bytes:
        raise InvalidArgument(
            f"The body has {len(body)} bytes; at most {rules.max_bytes} are allowed.", reason="REQUEST_TOO_LARGE"
        )
    rules.bounds.check_json(body)
    return bytes(body)


def _check_fields(document: dict[str, Any], model: str) -> None:
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


def _count_parts(message: object) -> int:
    content = message.get("content") if isinstance(message, dict) else None
    return len(content) if isinstance(content, list) else 0
