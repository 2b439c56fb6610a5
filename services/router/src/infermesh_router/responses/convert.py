"""Converts bodies of /v1/responses to the jobs of chats."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from infermesh_router.images.reading import ImageReader
from infermesh_router.openai.answers.chat import ChatShape
from infermesh_router.openai.bodies import BodyRules, check_conversation, check_document, take_body
from infermesh_router.openai.conversion import Converted
from infermesh_router.openai.convert.chat import chat_job
from infermesh_router.openai.convert.tools import ignored_strictness
from infermesh_router.openai.errors import from_validation, invalid
from infermesh_router.openai.job import Job
from infermesh_router.openai.parse import parse_body
from infermesh_router.openai.schema.chat import ChatRequest
from infermesh_router.responses.items import AnyItem, Item, MessageItem, ReferenceItem
from infermesh_router.responses.messages import chat_messages, image_paths, shown_items
from infermesh_router.responses.names import CHAT_NAMES, WORKER_NAMES, from_chat
from infermesh_router.responses.schema import JsonSchemaFormat, ResponseRequest
from infermesh_router.responses.told import References, Told, kept_item, told_members
from infermesh_router.responses.tools import FunctionTool, chat_tool_choice
from infermesh_runtime.errors import InvalidArgument

_ITEMS: TypeAdapter[list[Item]] = TypeAdapter(list[AnyItem])
_SAME_NAMES = [
    "model",
    "stream",
    "temperature",
    "top_p",
    "parallel_tool_calls",
    "user",
    "safety_identifier",
    "prompt_cache_key",
    "seed",
    "stop",
    "top_k",
    "min_p",
    "presence_penalty",
    "frequency_penalty",
    "repetition_penalty",
    "chat_template_kwargs",
    "enable_thinking",
    "cache_salt",
    "priority",
    "device",
    "session_id",
    "deadline_ms",
]
"""Fields that a chat has under the same name and that mean the same there."""


@dataclass(frozen=True, slots=True)
class Past:
    """What the router kept of what a body refers to."""

    context: tuple[bytes, ...] = ()
    """The items of the responses before, as JSON, in order."""
    items: tuple[bytes, ...] = ()
    """The items to which the body refers, in the order of its references."""


def convert_response(message: bytes, rules: BodyRules, model: str = "", *, past: Past | None = None) -> Converted:
    """Converts a body of /v1/responses. Raises InvalidArgument.

    For a body that refers to what the router keeps, and without that `past`, the job has no calls, and `extra` is the
    References.
    """

    def check(document: dict[str, Any]) -> None:
        check_document(document, model)
        before = len(past.context if past else ())
        check_conversation(document.get("input"), rules.bounds, before=before, count=_count_parts)

    parsed = parse_body(ResponseRequest, take_body(message, rules), ignore_unknown=rules.ignore_unknown, check=check)
    request = parsed.request
    if past is None and (found := _references(request)) is not None:
        return Converted(_not_yet(request), (), found)
    items, context = _resolved(request, past or Past()), _stored(past.context if past else ())
    images = ImageReader(rules.images, image_paths([*context, *items], len(context)))
    try:
        chat = _chat(request, [*context, *items])
        job = chat_job(chat, images)
    except InvalidArgument as error:
        raise from_chat(error) from None
    keeps = request.store is not False
    told = Told(
        members=told_members(request),
        items=tuple(map(kept_item, shown_items(items))) if keeps else (),
        previous=request.previous_response_id,
        keeps=keeps,
        asks_to_keep=request.store is True,
        logprobs=request.wants_logprobs,
    )
    strictness = ("tools[].strict",) if ignored_strictness(chat) else ()
    return Converted(_as_response(job, images.names), parsed.ignored + request.hints() + strictness, told)


def _references(request: ResponseRequest) -> References | None:
    items = request.input if isinstance(request.input, list) else ()
    ids = tuple(item.id for item in items if isinstance(item, ReferenceItem))
    return References(request.previous_response_id, ids) if ids or request.previous_response_id else None


def _resolved(request: ResponseRequest, past: Past) -> list[Item]:
    """The items of the body, each reference replaced by what it refers to."""
    given = request.input
    if given is None:
        if request.previous_response_id is None:
            raise invalid("input", "is required", reason="MISSING_REQUIRED_PARAMETER")
        return []
    if isinstance(given, str):
        return [MessageItem(role="user", content=given)]
    found = iter(_stored(past.items))
    return [next(found) if isinstance(item, ReferenceItem) else item for item in given]


def _stored(items: Sequence[bytes]) -> list[Item]:
    return _ITEMS.validate_python([orjson.loads(item) for item in items])


def _chat(request: ResponseRequest, items: list[Item]) -> ChatRequest:
    """The chat that a response is."""
    fields = _chat_fields(request) | {"messages": chat_messages(items, request.instructions)}
    try:
        return ChatRequest.model_validate(fields)
    except ValidationError as error:
        problems = error.errors(include_url=False)
    raise from_validation(problems)


def _as_response(job: Job, images: Mapping[str, str]) -> Job:
    """The job with a response's id, and its names of the fields. `images`: those of images."""
    others = {path: CHAT_NAMES.get(name, name) for path, name in job.field_names.items()}
    names = {**images, **WORKER_NAMES, **others}
    return replace(job, id=f"resp_{job.id.rpartition('-')[2]}", field_names=names)


def _chat_fields(request: ResponseRequest) -> dict[str, Any]:
    """The fields of a chat, but for its messages. Those that were not given are left out."""
    text, reasoning = request.text, request.reasoning
    fields: dict[str, Any] = {name: getattr(request, name) for name in _SAME_NAMES}
    fields["max_completion_tokens"] = request.max_output_tokens
    if request.wants_logprobs:
        fields |= {"logprobs": True, "top_logprobs": request.top_logprobs or 0}
    if request.truncation == "auto":
        fields["truncate_prompt_tokens"] = -1
    if request.tools:
        fields["tools"] = [tool.as_chat() for tool in request.tools if isinstance(tool, FunctionTool)]
        if request.tool_choice is not None:
            fields["tool_choice"] = chat_tool_choice(request.tool_choice)
    elif request.tool_choice not in (None, "none", "auto"):
        raise invalid("tool_choice", "needs 'tools'")
    if text is not None:
        fields["verbosity"] = text.verbosity
        if isinstance(text.format, JsonSchemaFormat):
            schema = text.format.model_dump(by_alias=True, exclude={"type"}, exclude_none=True)
            fields["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif text.format is not None:
            fields["response_format"] = text.format.model_dump(by_alias=True, exclude_none=True)
    if reasoning is not None:
        fields["reasoning_effort"] = reasoning.effort
    return {name: value for name, value in fields.items() if value is not None}


def _not_yet(request: ResponseRequest) -> Job:
    """A job that nobody runs: what the body refers to must be looked up first."""
    return Job(
        id="",
        model=request.model,
        calls=(),
        choices_per_prompt=1,
        returned_per_prompt=1,
        shape=ChatShape(),
        stream=False,
        include_usage=False,
        logprobs=False,
        field_names={},
    )


def _count_parts(item: object) -> int:
    content = item.get("content", item.get("output")) if isinstance(item, dict) else None
    return len(content) if isinstance(content, list) else 0
