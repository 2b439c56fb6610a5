"""Converts bodies of /api/chat and /api/generate to the jobs that /v1/chat/completions would make of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from infermesh_router.ollama.fields import CHAT_NAMES, GENERATE_NAMES, OPENAI_NAMES, list_hints
from infermesh_router.ollama.messages import openai_messages
from infermesh_router.ollama.names import without_tag
from infermesh_router.ollama.schema import AskBody, ChatBody, GenerateBody, Options
from infermesh_router.openai.answers.chat import ChatShape
from infermesh_router.openai.bodies import BodyRules, check_document, take_body
from infermesh_router.openai.conversion import Converted
from infermesh_router.openai.convert.chat import chat_job
from infermesh_router.openai.convert.completion import completion_job
from infermesh_router.openai.errors import from_validation, invalid, rename_fields
from infermesh_router.openai.job import Job
from infermesh_router.openai.parse import parse_body
from infermesh_router.openai.schema.chat import ChatRequest
from infermesh_router.openai.schema.completion import CompletionRequest
from infermesh_router.openai.schema.fields import UNLIMITED
from infermesh_runtime.errors import InfermeshError

RequestT = TypeVar("RequestT", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedOf:
    """What an answer needs of the body beside its job."""

    model: str
    """As the client wrote it."""
    is_chat: bool
    keep_alive_s: float | None
    """None: the client does not say. Infinite: forever."""


def convert_chat(message: bytes, rules: BodyRules, model: str = "") -> Converted:
    """Converts a body of /api/chat. Without messages the job has no calls. Raises InvalidArgument."""

    def check(document: dict[str, Any]) -> None:
        check_document(document, model)
        messages = document.get("messages")
        if isinstance(messages, list):
            rules.bounds.check_messages(len(messages))

    parsed = parse_body(ChatBody, take_body(message, rules), ignore_unknown=rules.ignore_unknown, check=check)
    body = parsed.request
    document = _shared(body) | {"messages": openai_messages(body.messages or ()), "tools": _tools(body)}
    job = _job(ChatRequest, chat_job, document, CHAT_NAMES) if body.messages else _nothing(body)
    return _converted(job, body, parsed.ignored, is_chat=True)


def convert_generate(message: bytes, rules: BodyRules, model: str = "") -> Converted:
    """Converts a body of /api/generate. Without a prompt the job has no calls. Raises InvalidArgument."""

    def check(document: dict[str, Any]) -> None:
        check_document(document, model)

    parsed = parse_body(GenerateBody, take_body(message, rules), ignore_unknown=rules.ignore_unknown, check=check)
    body, ignored = parsed.request, parsed.ignored
    if body.raw and body.system:
        raise invalid("system", "must not be set beside 'raw', which renders no template")
    if not body.prompt and not body.suffix:
        job = _nothing(body)
    elif body.raw or body.suffix:
        job = _continuation(body)
        ignored += tuple(name for name in ("system", "think") if getattr(body, name))
    else:
        spoken = {"system": body.system, "user": body.prompt}
        messages = [{"role": role, "content": text} for role, text in spoken.items() if text]
        job = _job(ChatRequest, chat_job, _shared(body) | {"messages": messages}, GENERATE_NAMES)
    return _converted(job, body, ignored, is_chat=False)


def _converted(job: Job, body: AskBody, ignored: tuple[str, ...], *, is_chat: bool) -> Converted:
    asked = AskedOf(model=body.model, is_chat=is_chat, keep_alive_s=body.keep_alive)
    return Converted(job, ignored + list_hints(body), asked)


def _continuation(body: GenerateBody) -> Job:
    """The job of a prompt that is continued, or whose gap is filled in, without a chat template."""
    document = _shared(body)
    thinking = ("enable_thinking", "reasoning_effort", "top_logprobs")
    document = {name: value for name, value in document.items() if name not in thinking}
    document |= {"prompt": body.prompt or "", "suffix": body.suffix or None}
    document["max_tokens"] = document["max_tokens"] or UNLIMITED  # OpenAI's default is 16 tokens
    document["logprobs"] = (body.top_logprobs or 0) if body.logprobs else None
    return _job(CompletionRequest, completion_job, document, GENERATE_NAMES)


def _job(
    schema: type[RequestT], make: Callable[[RequestT], Job], document: dict[str, Any], names: Mapping[str, str]
) -> Job:
    """The job of a body of OpenAI's. Its errors name Ollama's fields."""
    try:
        job = make(schema.model_validate({name: value for name, value in document.items() if value is not None}))
    except ValidationError as error:
        raise rename_fields(from_validation(error.errors(include_url=False)), OPENAI_NAMES) from None
    except InfermeshError as error:
        raise rename_fields(error, OPENAI_NAMES) from None
    return replace(job, field_names=names)


def _nothing(body: AskBody) -> Job:
    """A job without calls, of a request that only loads or unloads the model."""
    return Job(
        id="",
        model=without_tag(body.model),
        calls=(),
        choices_per_prompt=1,
        returned_per_prompt=1,
        shape=ChatShape(),
        stream=body.stream is not False,
        include_usage=False,
        logprobs=False,
        deadline_s=None if body.deadline_ms is None else body.deadline_ms / 1000,
        field_names={},
    )


def _shared(body: AskBody) -> dict[str, Any]:
    """The fields of OpenAI's body, except for the prompt; None where the client does not say."""
    options = body.options or Options()
    return {
        "model": without_tag(body.model),
        "stream": body.stream is not False,
        "temperature": options.temperature,
        "top_k": None if options.top_k is None else max(0, options.top_k),
        "top_p": options.top_p,
        "min_p": options.min_p,
        "repetition_penalty": options.repeat_penalty or None,
        "presence_penalty": options.presence_penalty,
        "frequency_penalty": options.frequency_penalty,
        "stop": options.stop,
        "seed": options.seed if options.seed is not None and options.seed >= 0 else None,
        "max_tokens": options.num_predict if options.num_predict is None or options.num_predict > 0 else UNLIMITED,
        "response_format": {"type": "json_object"} if body.format == "json" else None,
        "json_schema": body.format if isinstance(body.format, dict) else None,
        "enable_thinking": None if body.think is None else bool(body.think),
        "reasoning_effort": body.think if isinstance(body.think, str) else None,
        "logprobs": body.logprobs,
        "top_logprobs": body.top_logprobs,
        "device": body.device,
        "session_id": body.session_id,
        "deadline_ms": body.deadline_ms,
    }


def _tools(body: ChatBody) -> list[dict[str, Any]] | None:
    """The tools in OpenAI's form, which needs the type that Ollama lets clients leave out."""
    return [{"type": "function", **tool} for tool in body.tools] if body.tools else None
