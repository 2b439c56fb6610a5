"""Converts bodies of the REST API to jobs: small ones at once, large ones in another process."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from infermesh_router.images.fetching import ImageFetcher
from infermesh_router.images.filling import filled
from infermesh_router.images.reading import ImageReader, RemoteImage
from infermesh_router.openai.bodies import BodyRules, check_conversation, check_document, take_body
from infermesh_router.openai.convert.chat import chat_job
from infermesh_router.openai.convert.completion import completion_job
from infermesh_router.openai.convert.tools import ignored_strictness
from infermesh_router.openai.errors import rename_fields
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
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.rpc.limits.body_budget import NO_BUDGET, SMALL_BYTES, Share


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
    remote_images: tuple[RemoteImage, ...] = ()
    """Images that the call lacks until they are fetched."""


ConvertAsked = Callable[[bytes, BodyRules, str], AskedCall]
"""Converts a serialised HttpBody, as `Convert` does."""
ConvertForm = Callable[[bytes, str, BodyRules, str], AskedCall]
"""Converts a serialised HttpBody with a form; its content type comes apart, as unpacking loses it."""


class BodyConverter:
    """Converts serialised HttpBody messages without holding up the event loop. Its methods raise InvalidArgument."""

    def __init__(
        self,
        pool: ParsingPool,
        rules: BodyRules,
        fetcher: ImageFetcher | None = None,
        *,
        check: Callable[[Call], None] = lambda _call: None,
    ) -> None:
        """`fetcher` fetches images that bodies name by URL, if the rules allow that.

        `check` raises InvalidArgument for a call whose images nobody would look at: those are not fetched.
        """
        self._pool = pool
        self._rules = rules
        self._fetcher = fetcher
        self._check = check

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
        converted = await self._convert(convert, message, sent, heavy=heavy)
        job = converted.job
        if not job.remote_images or self._fetcher is None:
            return converted
        self._check_images(job.calls[0], job.field_names)
        call = await self._with_images(job.calls[0], job.remote_images, sent.share, self._fetcher)
        return replace(converted, job=replace(job, calls=(call,), remote_images=()))

    async def asked(self, convert: ConvertAsked, message: bytes, sent: Sent = PLAINLY) -> AskedCall:
        """The call of a body and what its answer needs, made by a function of a module."""
        asked = await self._asked(convert, message, sent)
        if not asked.remote_images or self._fetcher is None:
            return asked
        self._check_images(asked.call, asked.extra)
        call = await self._with_images(asked.call, asked.remote_images, sent.share, self._fetcher)
        return replace(asked, call=call, remote_images=())

    async def _convert(self, convert: Convert, message: bytes, sent: Sent, *, heavy: bool) -> Converted:
        message, encoding = await self._unpack_small(message, sent)
        if not encoding and not heavy and is_light_json(message):
            return convert(message, self._rules, sent.model)
        converted, bodies = await self._pool.run(_convert_heavy, message, encoding, convert, self._rules, sent.model)
        calls = zip(converted.job.calls, bodies, strict=True)
        job = replace(converted.job, calls=tuple(replace(call, body=body) for call, body in calls))
        return replace(converted, job=job)

    async def _asked(self, convert: ConvertAsked, message: bytes, sent: Sent) -> AskedCall:
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

    def _check_images(self, call: Call, names: Mapping[str, str]) -> None:
        """Raises InvalidArgument with the client's name of an image that nobody would look at."""
        try:
            self._check(call)
        except InvalidArgument as error:
            raise rename_fields(error, names) from None

    async def _with_images(
        self, call: Call, images: tuple[RemoteImage, ...], share: Share, fetcher: ImageFetcher
    ) -> Call:
        """The call with the images that it names by URL, whose bytes count as those of its body do."""
        size = len(call.body)

        def arrived(more: int) -> None:
            nonlocal size
            size += more
            if size > self._rules.max_bytes:
                raise InvalidArgument(
                    f"The request and its images have more than {self._rules.max_bytes} bytes together, the most that "
                    "is allowed.",
                    reason="REQUEST_TOO_LARGE",
                )
            share.arrived(size)

        contents = await fetcher.fetch(images, arrived)
        return await filled(self._pool, call, images, contents, self._rules.bounds)

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


def _unpacked(message: bytes, encoding: str, rules: BodyRules) -> bytes:
    return unpack_body(message, encoding, rules.max_bytes) if encoding else message


def convert_chat(message: bytes, rules: BodyRules, model: str = "") -> Converted:
    """Converts a body of /v1/chat/completions. Raises InvalidArgument."""

    def check(document: dict[str, Any]) -> None:
        check_document(document, model)
        check_conversation(document.get("messages"), rules.bounds)

    parsed = parse_body(ChatRequest, take_body(message, rules), ignore_unknown=rules.ignore_unknown, check=check)
    ignored = parsed.ignored + list_hints(parsed.request) + ignored_strictness(parsed.request)
    return Converted(chat_job(parsed.request, ImageReader(rules.images)), ignored)


def convert_completion(message: bytes, rules: BodyRules, model: str = "") -> Converted:
    """Converts a body of /v1/completions. Raises InvalidArgument."""
    check = partial(check_document, model=model)
    body = take_body(message, rules)
    parsed = parse_body(CompletionRequest, body, ignore_unknown=rules.ignore_unknown, check=check)
    return Converted(completion_job(parsed.request), parsed.ignored + list_hints(parsed.request))
