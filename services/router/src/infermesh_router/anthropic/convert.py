"""Converts the bodies of /v1/messages and /v1/messages/count_tokens to the jobs and calls of a chat."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import ValidationError

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.anthropic.conversation import Conversation, read_conversation
from infermesh_router.anthropic.schema import CountBody, CustomTool, MessagesBody, ToolChoice
from infermesh_router.images.reading import ImageReader
from infermesh_router.openai.bodies import BodyRules, check_conversation, check_document, take_body
from infermesh_router.openai.conversion import Converted
from infermesh_router.openai.convert.chat import chat_job
from infermesh_router.openai.errors import from_validation, invalid
from infermesh_router.openai.job import Job
from infermesh_router.openai.parse import parse_body
from infermesh_router.openai.schema.chat import ChatRequest
from infermesh_router.openai.schema.fields import Strict
from infermesh_router.requests.kinds.tokens import read_tokenize

BodyT = TypeVar("BodyT", bound=CountBody)

_NAMES = {
    "stop.strings": "stop_sequences",
    "format": "output_config.format",
    "chat.enable_thinking": "thinking",
    "chat.reasoning_effort": "output_config.effort",
    "chat.messages[].reasoning_content": "messages[].content[].thinking",
}
"""Paths of the gRPC contract → names in the body."""
_FORCED = ("any", "tool")
_NO_THREADS = "THREAD_UNSUPPORTED_REQUEST"  # as Anthropic names it, so that its package goes on without threads


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a body set as ends of its answer, which says which of them it reached."""

    stop_sequences: tuple[str, ...]
    max_tokens: int


def convert_messages(message: bytes, rules: BodyRules, model: str = "") -> Converted:
    """Converts a body of /v1/messages. Raises InvalidArgument."""
    body, unknown = _parse(MessagesBody, message, rules, model)
    limits = Limits(stop_sequences=tuple(body.stop_sequences or ()), max_tokens=body.max_tokens)
    job, ignored = _job(body, _sampling(body), rules)
    return Converted(job, unknown + ignored, limits)


def convert_count(message: bytes, rules: BodyRules, model: str = "") -> Converted:
    """Converts a body of /v1/messages/count_tokens. The job's call counts the prompt that /v1/messages would have."""
    body, unknown = _parse(CountBody, message, rules, model)
    job, ignored = _job(body, {}, rules)
    asked = pb.GenerateRequest.FromString(job.calls[0].body)
    made = pb.TokenizeRequest(model=asked.model, chat=asked.chat, device=asked.device)
    call = read_tokenize(made.SerializeToString(), rules.bounds)
    return Converted(replace(job, calls=(call,)), unknown + ignored)


def _parse(schema: type[BodyT], message: bytes, rules: BodyRules, model: str) -> tuple[BodyT, tuple[str, ...]]:
    """The body, and the paths of its unknown fields that were ignored."""

    def check(document: dict[str, Any]) -> None:
        check_document(document, model)
        check_conversation(document.get("messages"), rules.bounds, count=_count_blocks)

    parsed = parse_body(schema, take_body(message, rules), ignore_unknown=rules.ignore_unknown, check=check)
    return parsed.request, parsed.ignored


def _count_blocks(holder: object) -> int:
    """The blocks in a message or a block, those in its blocks included."""
    content = holder.get("content") if isinstance(holder, dict) else None
    return sum(1 + _count_blocks(block) for block in content) if isinstance(content, list) else 0


def _job(body: CountBody, sampling: dict[str, Any], rules: BodyRules) -> tuple[Job, tuple[str, ...]]:
    """The job of a chat, and the paths of what has no effect."""
    if body.thread is not None:
        raise invalid("thread", "is not supported: send all messages of the conversation", reason=_NO_THREADS)
    conversation = read_conversation(body.system, body.messages)
    fields = {
        "model": body.model,
        "messages": conversation.messages,
        "continue_final_message": conversation.is_open or None,
        "chat_template_kwargs": body.chat_template_kwargs,
        "device": body.device,
        **_tools(body),
        **_thinking(body),
        **sampling,
    }
    given = {name: value for name, value in fields.items() if value is not None}
    try:
        job = chat_job(ChatRequest.model_validate(given), ImageReader(rules.images, conversation.images))
    except ValidationError as error:
        raise from_validation(error.errors(include_url=False)) from None
    names = {**job.field_names, **_NAMES, **_message_names(conversation)}
    job = replace(job, id=f"msg_{job.id.rpartition('-')[2][:24]}", field_names=names)
    return job, (*_hints(body), *sorted(conversation.ignored))


def _message_names(conversation: Conversation) -> Mapping[str, str]:
    """Where each message of the prompt is in the body, for those that are elsewhere."""
    names = ((f"chat.messages[{index}]", path) for index, path in enumerate(conversation.paths))
    return {name: path for name, path in names if name.removeprefix("chat.") != path}


def _sampling(body: MessagesBody) -> dict[str, Any]:
    wanted = (body.output_config and body.output_config.format) or body.output_format
    return {
        "max_tokens": body.max_tokens,
        "stream": body.stream,
        "stop": body.stop_sequences or None,
        "temperature": body.temperature,
        "top_p": body.top_p,
        "top_k": body.top_k,
        "user": body.metadata and body.metadata.user_id,
        "seed": body.seed,
        "session_id": body.session_id,
        "deadline_ms": body.deadline_ms,
        "response_format": wanted
        and {"type": "json_schema", "json_schema": {"name": "answer", "schema": wanted.schema_}},
    }


def _thinking(body: CountBody) -> dict[str, Any]:
    effort = body.output_config and body.output_config.effort
    if body.thinking is None or body.thinking.type == "adaptive":
        return {"reasoning_effort": effort}
    return {"reasoning_effort": effort, "enable_thinking": body.thinking.type == "enabled"}


def _tools(body: CountBody) -> dict[str, Any]:
    """Tools and how they may be called, in OpenAI's form."""
    tools = [_tool(tool) for tool in body.tools or () if isinstance(tool, CustomTool)]
    choice = body.tool_choice
    if not tools:
        if not _is_free(choice):
            raise invalid("tool_choice", "needs 'tools'")
        return {}
    if choice is None:
        return {"tools": tools}
    parallel = None if choice.disable_parallel_tool_use is None else not choice.disable_parallel_tool_use
    return {"tools": tools, "tool_choice": _choice(choice), "parallel_tool_calls": parallel}


def _tool(tool: CustomTool) -> dict[str, Any]:
    function: dict[str, Any] = {"name": tool.name, "description": tool.description, "parameters": tool.input_schema}
    if tool.strict is not None:
        function["strict"] = tool.strict
    return {"type": "function", "function": {name: value for name, value in function.items() if value is not None}}


def _choice(choice: ToolChoice) -> str | dict[str, Any]:
    if choice.type != "tool":
        return "required" if choice.type == "any" else choice.type
    if choice.name is None:
        raise invalid("tool_choice.name", "is required", reason="MISSING_REQUIRED_PARAMETER")
    return {"type": "function", "function": {"name": choice.name}}


def _is_free(choice: ToolChoice | None) -> bool:
    """Whether the model may answer without a call."""
    return choice is None or choice.type not in _FORCED


def _hints(body: CountBody) -> Iterator[str]:
    """The paths of what was set to something else than its default and has no effect."""
    yield from _set_hints(body, body.HINTS)
    for name in dict.fromkeys(
        name for tool in body.tools or () if isinstance(tool, CustomTool) for name in _set_hints(tool, tool.HINTS)
    ):
        yield f"tools[].{name}"
    if _is_free(body.tool_choice) and any(isinstance(tool, CustomTool) and tool.strict for tool in body.tools or ()):
        yield "tools[].strict"  # where calls are not forced, the model writes what it likes
    if body.thinking is not None and body.thinking.budget_tokens is not None:
        yield "thinking.budget_tokens"


def _set_hints(value: Strict, neutral: Mapping[str, tuple[object, ...]]) -> Iterator[str]:
    for name in value.model_fields_set & neutral.keys():
        given = getattr(value, name)
        if given is not None and given not in neutral[name]:
            yield name
