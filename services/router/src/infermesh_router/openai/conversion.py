"""Converts bodies of OpenAI's API to jobs: small ones at once, large ones in another process."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from infermesh_router.openai.convert import chat_job, completion_job
from infermesh_router.openai.job import Job
from infermesh_router.openai.packed_body import read_body, unpack_body, unpack_small_body, unpacked_body_size
from infermesh_router.openai.parse import parse_body
from infermesh_router.openai.schema import ChatRequest, CompletionRequest
from infermesh_router.requests.bounds import Bounds, is_light_json
from infermesh_router.requests.parsing_pool import ParsingPool
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.rpc.body_budget import NO_BUDGET, Share

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
    """A job, and the paths of the unknown fields of its body that were ignored."""

    job: Job
    ignored: tuple[str, ...]


Convert = Callable[[bytes, BodyRules], Converted]


class BodyConverter:
    """Converts serialised HttpBody messages without holding up the event loop. Its methods raise InvalidArgument."""

    def __init__(self, pool: ParsingPool, rules: BodyRules) -> None:
        self._pool = pool
        self._rules = rules

    async def chat(self, message: bytes, encoding: str = "", share: Share = NO_BUDGET) -> Converted:
        """The job of a body of /v1/chat/completions. `share` counts what a body becomes that is compressed."""
        return await self._convert(convert_chat, message, encoding, share)

    async def completion(self, message: bytes, encoding: str = "", share: Share = NO_BUDGET) -> Converted:
        """The job of a body of /v1/completions."""
        return await self._convert(convert_completion, message, encoding, share)

    async def _convert(self, convert: Convert, message: bytes, encoding: str, share: Share) -> Converted:
        if encoding and (small := unpack_small_body(message, encoding)) is not None:
            message, encoding = small, ""
        if encoding:
            size_bytes, _ = await self._pool.run(unpacked_body_size, message, encoding, self._rules.max_bytes)
            share.arrived(size_bytes)  # before the first copy of that size is made
        elif is_light_json(message):
            return convert(message, self._rules)
        converted, bodies = await self._pool.run(_convert_heavy, message, encoding, convert, self._rules)
        calls = zip(converted.job.calls, bodies, strict=True)
        job = replace(converted.job, calls=tuple(replace(call, body=body) for call, body in calls))
        return replace(converted, job=job)


def _convert_heavy(message: bytes, encoding: str, convert: Convert, rules: BodyRules) -> tuple[Converted, list[bytes]]:
    """The job with calls that have no bodies, and their bodies."""
    if encoding:
        message = unpack_body(message, encoding, rules.max_bytes)
    converted = convert(message, rules)
    job = replace(converted.job, calls=tuple(replace(call, body=b"") for call in converted.job.calls))
    return replace(converted, job=job), [call.body for call in converted.job.calls]


def convert_chat(message: bytes, rules: BodyRules) -> Converted:
    """Converts a body of /v1/chat/completions. Raises InvalidArgument."""

    def check(document: dict[str, Any]) -> None:
        _check_fields(document)
        messages = document.get("messages")
        if isinstance(messages, list):
            rules.bounds.check_messages(len(messages))
            rules.bounds.check_parts(sum(map(_count_parts, messages)))

    parsed = parse_body(ChatRequest, _take_body(message, rules), ignore_unknown=rules.ignore_unknown, check=check)
    return Converted(chat_job(parsed.request), parsed.ignored)


def convert_completion(message: bytes, rules: BodyRules) -> Converted:
    """Converts a body of /v1/completions. Raises InvalidArgument."""
    parsed = parse_body(
        CompletionRequest, _take_body(message, rules), ignore_unknown=rules.ignore_unknown, check=_check_fields
    )
    return Converted(completion_job(parsed.request), parsed.ignored)


def _take_body(message: bytes, rules: BodyRules) -> bytes:
    """The JSON text in an HttpBody message, within the bounds."""
    body = read_body(message)
    if len(body) > rules.max_bytes:
        raise InvalidArgument(
            f"The body has {len(body)} bytes; at most {rules.max_bytes} are allowed.", reason="REQUEST_TOO_LARGE"
        )
    rules.bounds.check_json(body)
    return body


def _check_fields(document: dict[str, Any]) -> None:
    """Refuses objects with so many fields that the schema would find millions of problems."""
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
