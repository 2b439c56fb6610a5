"""Converts bodies of /api/chat and /api/generate to the jobs that /v1/chat/completions would make of them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from pydantic import ValidationError

from infermesh_router.images.reading import ImageReader
from infermesh_router.ollama.context import MAX_BYTES, read_context
from infermesh_router.ollama.fields import CHAT_NAMES, GENERATE_NAMES, OPENAI_NAMES, list_hints
from infermesh_router.ollama.listing.names import without_tag
from infermesh_router.ollama.messages import image_paths, openai_messages, with_images
from infermesh_router.ollama.schema import AskBody, ChatBody, GenerateBody, Options, Said
from infermesh_router.openai.answers.chat import ChatShape
from infermesh_router.openai.bodies import BodyRules, check_conversation, check_document, take_body
from infermesh_router.openai.conversion import Converted
from infermesh_router.openai.convert.chat import chat_job
from infermesh_router.openai.convert.completion import completion_job
from infermesh_router.openai.convert.tools import ignored_strictness
from infermesh_router.openai.errors import from_validation, invalid, rename_fields
from infermesh_router.openai.job import Job
from infermesh_router.openai.parse import parse_body
from infermesh_router.openai.schema.chat import ChatRequest
from infermesh_router.openai.schema.completion import CompletionRequest
from infermesh_router.openai.schema.fields import UNLIMITED
from infermesh_router.openai.schema.hints import list_hints as openai_hints
from infermesh_runtime.errors import InfermeshError


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedOf:
    """What an answer needs of the body beside its job."""

    model: str
    """As the client wrote it."""
    is_chat: bool
    keep_alive_s: float | None
    """None: the client does not say. Infinite: forever."""
    said: tuple[Said, ...] = ()
    """The conversation that `context` will hold, without the answer; empty if it will hold none."""


def convert_chat(message: bytes, rules: BodyRules, model: str = "") -> Converted:
    """Converts a body of /api/chat. Without messages the job has no calls. Raises InvalidArgument."""

    def check(document: dict[str, Any]) -> None:
        check_document(document, model)
        check_conversation(document.get("messages"), rules.bounds)

    parsed = parse_body(ChatBody, take_body(message, rules), ignore_unknown=rules.ignore_unknown, check=check)
    body, ignored = parsed.request, parsed.ignored
    if not body.messages:
        return _converted(_nothing(body), body, ignored, is_chat=True)
    tools = [tool.model_dump(exclude_none=True) for tool in body.tools or ()]
    document = _shared(body) | {"messages": openai_messages(body.messages), "tools": tools}
    images = ImageReader(rules.images, image_paths(body.messages))
    with _ollamas_names():
        request = ChatRequest.model_validate(_present(document))
        job = chat_job(request, images)
    ignored += openai_hints(request) + ignored_strictness(request)
    return _converted(replace(job, field_names={**images.names, **CHAT_NAMES}), body, ignored, is_chat=True)


def convert_generate(message: bytes, rules: BodyRules, model: str = "") -> Converted:
    """Converts a body of /api/generate. Without a prompt the job has no calls. Raises InvalidArgument."""
    check = partial(check_document, model=model)
    parsed = parse_body(GenerateBody, take_body(message, rules), ignore_unknown=rules.ignore_unknown, check=check)
    body, ignored = parsed.request, parsed.ignored
    said: tuple[Said, ...] = ()
    images = ImageReader(rules.images, [f"images[{number}]" for number in range(len(body.images or ()))])
    _refuse_beside_raw(body)
    if not body.prompt and not body.suffix and not body.images:
        job = _nothing(body)
    elif body.raw or body.suffix:
        job = _continuation(body)
        ignored += tuple(name for name in ("system", "think") if getattr(body, name))
    else:
        said = _conversation(body)
        rules.bounds.check_messages(len(said))
        messages: list[dict[str, Any]] = [message.model_dump() for message in said]
        if body.images:
            messages[-1]["content"], said = with_images(body.prompt or "", body.images), ()
        with _ollamas_names():
            job = chat_job(ChatRequest.model_validate(_present(_shared(body) | {"messages": messages})), images)
    names = {**images.names, **GENERATE_NAMES}
    return _converted(replace(job, field_names=names), body, ignored, is_chat=False, said=said)


def _refuse_beside_raw(body: GenerateBody) -> None:
    """Refuses what a prompt without a chat template has no place for."""
    if body.raw and body.system:
        raise invalid("system", "must not be set beside 'raw', which renders no template")
    for name in ("raw", "suffix"):
        for other in ("context", "images"):
            if getattr(body, other) and getattr(body, name):
                raise invalid(other, f"must not be set beside '{name}', which renders no template")


def _conversation(body: GenerateBody) -> tuple[Said, ...]:
    """What was said before, and the prompt. A new system text replaces the old one."""
    before = read_context(body.context) if body.context else []
    if body.system:
        before = [Said(role="system", content=body.system), *(said for said in before if said.role != "system")]
    return (*before, Said(role="user", content=body.prompt or ""))


def _converted(
    job: Job, body: AskBody, ignored: tuple[str, ...], *, is_chat: bool, said: tuple[Said, ...] = ()
) -> Converted:
    kept = said if sum(len(message.content) for message in said) <= MAX_BYTES else ()
    asked = AskedOf(model=body.model, is_chat=is_chat, keep_alive_s=body.keep_alive, said=kept)
    return Converted(job, ignored + list_hints(body), asked)


def _continuation(body: GenerateBody) -> Job:
    """The job of a prompt that is continued, or whose gap is filled in, without a chat template."""
    document = _shared(body)
    thinking = ("enable_thinking", "reasoning_effort", "top_logprobs")
    document = {name: value for name, value in document.items() if name not in thinking}
    document |= {"prompt": body.prompt or "", "suffix": body.suffix or None}
    document["max_tokens"] = document["max_tokens"] or UNLIMITED  # OpenAI's default is 16 tokens
    document["logprobs"] = (body.top_logprobs or 0) if body.logprobs else None
    with _ollamas_names():
        return completion_job(CompletionRequest.model_validate(_present(document)))


@contextmanager
def _ollamas_names() -> Iterator[None]:
    """What is wrong with a body of OpenAI's is told by the names of Ollama's fields."""
    try:
        yield
    except ValidationError as error:
        raise rename_fields(from_validation(error.errors(include_url=False)), OPENAI_NAMES) from None
    except InfermeshError as error:
        raise rename_fields(error, OPENAI_NAMES) from None


def _present(document: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in document.items() if value not in (None, [])}


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
