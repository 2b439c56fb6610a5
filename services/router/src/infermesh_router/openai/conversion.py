"""Converts bodies of the REST API to jobs: small ones at once, large ones in another process."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from infermesh_router.openai.bodies import BodyRules, check_conversation, check_document, take_body
from infermesh_router.openai.convert.chat import chat_job
from infermesh_router.openai.convert.completion import completion_job
from infermesh_router.openai.convert.tokens import ConvertCall
from infermesh_router.openai.convert.tools import ignored_strictness
from infermesh_router.openai.job import Job
from infermesh_router.openai.packed_body import unpack_body, unpack_small_body, unpacked_body_size
from infermesh_router.openai.parse import parse_body
from infermesh_router.openai.schema.chat import ChatRequest
from infermesh_router.openai.schema.completion import CompletionRequest
from infermesh_router.openai.schema.hints import list_hints
from infermesh_router.requests.bounds import is_light_json
from infermesh_router.requests.call import Call
from infermesh_router.requests.form import content_type_of
from infermesh_router.requests.parsing_pool import ParsingPool
from infermesh_runtime.rpc.body_budget import NO_BUDGET, SMALL_BYTES, Share


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """How a body was sent."""

    encoding: str = ""
    """How it is compressed; empty if it is not."""
    share: Share = NO_BUDGET
    """Counts what a body becomes that is compressed."""
    model: str = ""
    """The model that counts instead of the body's, if it is not empty."""


PLAINLY = Sent()


@dataclass(frozen=True, slots=True)
class Converted:
    """A job, and the paths of the fields of its body that have no effect."""

    job: Job
    ignored: tuple[str, ...]
    extra: Any = None
    """What the dialect's answer needs of the body besides. It must be possible to send it to another process."""


Convert = Callable[[bytes, BodyRules, str], Converted]
"""Converts a serialised HttpBody; the text is the model that counts instead of the body's, if it is not empty."""


@dataclass(frozen=True, slots=True)
class AskedCall:
    """A call that is answered with one message, and the paths of the fields of its body that have no effect."""

    call: Call
    ignored: tuple[str, ...]
    extra: Any
    """What its answer needs of the body besides. It must be possible to send it to another process."""


ConvertAsked = Callable[[bytes, BodyRules, str], AskedCall]
"""Converts a serialised HttpBody, as `Convert` does."""
ConvertForm = Callable[[bytes, str, BodyRules, str], AskedCall]
"""Converts a serialised HttpBody with a form; its content type comes apart, as unpacking loses it."""


class BodyConverter:
    """Converts serialised HttpBody messages without holding up the event loop. Its methods raise InvalidArgument."""

    def __init__(self, pool: ParsingPool, rules: BodyRules) -> None:
        self._pool = pool
        self._rules = rules

    async def chat(self, message: bytes, sent: Sent = PLAINLY) -> Converted:
        """The job of a body of /v1/chat/completions."""
        return await self.convert(convert_chat, message, sent)

    async def completion(self, message: bytes, sent: Sent = PLAINLY) -> Converted:
        """The job of a body of /v1/completions."""
        return await self.convert(convert_completion, message, sent)

    async def convert(
        self, convert: Convert, message: bytes, sent: Sent = PLAINLY, *, heavy: bool = False
    ) -> Converted:
        """The job of a body of any dialect. `convert` must be a function of a module. `heavy`: it has much to do even
        for a small body."""
        message, encoding = await self._unpack_small(message, sent)
        if not encoding and not heavy and is_light_json(message):
            return convert(message, self._rules, sent.model)
        converted, bodies = await self._pool.run(_convert_heavy, message, encoding, convert, self._rules, sent.model)
        calls = zip(converted.job.calls, bodies, strict=True)
        job = replace(converted.job, calls=tuple(replace(call, body=body) for call, body in calls))
        return replace(converted, job=job)

    async def asked(self, convert: ConvertAsked, message: bytes, sent: Sent = PLAINLY) -> AskedCall:
        """The call of a body and what its answer needs, made by a function of a module."""
        message, encoding = await self._unpack_small(message, sent)
        if not encoding and is_light_json(message):
            return convert(message, self._rules, sent.model)
        asked, (body,) = await self._pool.run(_convert_heavy_asked, message, encoding, convert, self._rules, sent.model)
        return replace(asked, call=replace(asked.call, body=body))

    async def form(self, convert: ConvertForm, message: bytes, sent: Sent = PLAINLY) -> AskedCall:
        """The same for a form, which may have files."""
        content_type = content_type_of(message)
        message, encoding = await self._unpack_small(message, sent)
        if not encoding and len(message) <= SMALL_BYTES:
            return convert(message, content_type, self._rules, sent.model)
        asked, (body,) = await self._pool.run(
            _convert_heavy_form,
            message,
            encoding,
            convert,
            content_type=content_type,
            rules=self._rules,
            model=sent.model,
        )
        return replace(asked, call=replace(asked.call, body=body))

    async def call(self, convert: ConvertCall, message: bytes, sent: Sent = PLAINLY) -> Call:
        """The call of a body, made by a function of `convert.tokens`."""
        message, encoding = await self._unpack_small(message, sent)
        if not encoding and is_light_json(message):
            return convert(message, self._rules)
        call, (body,) = await self._pool.run(_convert_heavy_call, message, encoding, convert, self._rules)
        return replace(call, body=body)

    async def _unpack_small(self, message: bytes, sent: Sent) -> tuple[bytes, str]:
        """The message and how it is still compressed: large bodies are unpacked elsewhere, once their size is known."""
        if not sent.encoding:
            return message, ""
        if (small := unpack_small_body(message, sent.encoding)) is not None:
            return small, ""
        size_bytes, _ = await self._pool.run(unpacked_body_size, message, sent.encoding, self._rules.max_bytes)
        sent.share.arrived(size_bytes)  # before the first copy of that size is made
        return message, sent.encoding


def _convert_heavy(
    message: bytes, encoding: str, convert: Convert, rules: BodyRules, model: str
) -> tuple[Converted, list[bytes]]:
    """The job with calls that have no bodies, and their bodies."""
    converted = convert(_unpacked(message, encoding, rules), rules, model)
    job = replace(converted.job, calls=tuple(replace(call, body=b"") for call in converted.job.calls))
    return replace(converted, job=job), [call.body for call in converted.job.calls]


def _convert_heavy_asked(
    message: bytes, encoding: str, convert: ConvertAsked, rules: BodyRules, model: str
) -> tuple[AskedCall, list[bytes]]:
    """The call without its body, and the body."""
    asked = convert(_unpacked(message, encoding, rules), rules, model)
    return replace(asked, call=replace(asked.call, body=b"")), [asked.call.body]


def _convert_heavy_form(
    message: bytes, encoding: str, convert: ConvertForm, *, content_type: str, rules: BodyRules, model: str
) -> tuple[AskedCall, list[bytes]]:
    """The call without its body, and the body."""
    asked = convert(_unpacked(message, encoding, rules), content_type, rules, model)
    return replace(asked, call=replace(asked.call, body=b"")), [asked.call.body]


def _convert_heavy_call(
    message: bytes, encoding: str, convert: ConvertCall, rules: BodyRules
) -> tuple[Call, list[bytes]]:
    """The call without its body, and the body."""
    call = convert(_unpacked(message, encoding, rules), rules)
    return replace(call, body=b""), [call.body]


def _unpacked(message: bytes, encoding: str, rules: BodyRules) -> bytes:
    return unpack_body(message, encoding, rules.max_bytes) if encoding else message


def convert_chat(message: bytes, rules: BodyRules, model: str = "") -> Converted:
    """Converts a body of /v1/chat/completions. Raises InvalidArgument."""

    def check(document: dict[str, Any]) -> None:
        check_document(document, model)
        check_conversation(document.get("messages"), rules.bounds)

    parsed = parse_body(ChatRequest, take_body(message, rules), ignore_unknown=rules.ignore_unknown, check=check)
    ignored = parsed.ignored + list_hints(parsed.request) + ignored_strictness(parsed.request)
    return Converted(chat_job(parsed.request), ignored)


def convert_completion(message: bytes, rules: BodyRules, model: str = "") -> Converted:
    """Converts a body of /v1/completions. Raises InvalidArgument."""
    check = partial(check_document, model=model)
    body = take_body(message, rules)
    parsed = parse_body(CompletionRequest, body, ignore_unknown=rules.ignore_unknown, check=check)
    return Converted(completion_job(parsed.request), parsed.ignored + list_hints(parsed.request))
