"""Converts OpenAI's requests to jobs: GenerateRequests, and how to answer."""

import json
import re
import uuid
from collections.abc import Mapping

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.tensor.v1 import tensor_pb2
from infermesh_router.openai.answers.chat import ChatShape
from infermesh_router.openai.answers.completions import CompletionShape
from infermesh_router.openai.errors import invalid
from infermesh_router.openai.fields import UINT32_MAX, JsonObjectFormat, JsonSchemaFormat, StructuredOutputs
from infermesh_router.openai.job import Job, Shape
from infermesh_router.openai.schema import ChatRequest, CompletionRequest, Message, SamplingRequest, TextPart
from infermesh_router.requests.call import from_generate

DEFAULT_COMPLETION_TOKENS = 16
"""OpenAI's default for /v1/completions."""

_TOKEN_ID = re.compile(r"0|[1-9][0-9]{0,9}")
_REGEX_SPECIAL = re.compile(r"([\\.+*?()|\[\]{}^$#&\-~])")
_UINT64 = 2**64


def chat_job(request: ChatRequest) -> Job:
    """Converts a chat request. Raises InvalidArgument for fields that contradict each other."""
    limit = _pick_limit(request)
    if request.top_logprobs and not request.logprobs:
        raise invalid("top_logprobs", "needs 'logprobs' to be true")
    prompt = _start_request(request, limit)
    if request.logprobs:
        prompt.logprobs.top = request.top_logprobs or 0
    prompt.client_id = request.safety_identifier or prompt.client_id
    if not prompt.session_id:
        prompt.session_id = request.prompt_cache_key or ""
    _fill_chat(prompt.chat, request)
    names = {"stop.max_tokens": "max_tokens" if request.max_tokens else "max_completion_tokens"}
    names["logprobs"] = "top_logprobs"
    names |= dict.fromkeys(("prompt", "text", "token_ids"), "messages")
    return _job("chatcmpl", request, (prompt,), ChatShape(), logprobs=bool(request.logprobs), names=names)


def completion_job(request: CompletionRequest) -> Job:
    """Converts a completion request. Raises InvalidArgument for fields that contradict each other."""
    if request.best_of is not None and request.best_of != (request.n or 1):
        raise invalid(
            "best_of",
            "must equal 'n' on this server",
            reason="UNSUPPORTED_PARAMETER",
        )
    base = _start_request(request, request.max_tokens or DEFAULT_COMPLETION_TOKENS)
    if request.logprobs is not None:
        base.logprobs.top = request.logprobs
    prompts = tuple(_with_prompt(base, prompt) for prompt in _list_prompts(request.prompt))
    names = {"logprobs.top": "logprobs"}
    return _job("cmpl", request, prompts, CompletionShape(), logprobs=request.logprobs is not None, names=names)


def _job(
    prefix: str,
    request: SamplingRequest,
    prompts: tuple[pb.GenerateRequest, ...],
    shape: Shape,
    *,
    logprobs: bool,
    names: Mapping[str, str],
) -> Job:
    options = request.stream_options
    if options is not None and not request.stream:
        raise invalid("stream_options", "needs 'stream' to be true")
    return Job(
        id=f"{prefix}-{uuid.uuid4().hex}",
        model=request.model,
        calls=tuple(from_generate(prompt) for prompt in prompts),
        choices_per_prompt=request.n or 1,
        shape=shape,
        stream=bool(request.stream),
        include_usage=bool(options and options.include_usage),
        logprobs=logprobs,
        field_names={**names, "format": "structured_outputs" if request.structured_outputs else "response_format"},
    )


def _pick_limit(request: ChatRequest) -> int | None:
    old, new = request.max_tokens, request.max_completion_tokens
    if old is not None and new is not None and old != new:
        raise invalid("max_tokens", "and 'max_completion_tokens' must not differ; set one")
    return old if new is None else new


def _start_request(request: SamplingRequest, limit: int | None) -> pb.GenerateRequest:
    """Everything except the prompt and the log probabilities."""
    return pb.GenerateRequest(
        model=request.model,
        sampling=_sampling(request),
        stop=_stop(request, limit),
        format=_format(request),
        n=request.n,
        seed=None if request.seed is None else request.seed % _UINT64,
        priority=-(request.priority or 0),
        device=request.device or "",
        session_id=request.session_id or "",
        client_id=request.user or "",
    )


def _sampling(request: SamplingRequest) -> pb.SamplingParams:
    return pb.SamplingParams(
        temperature=request.temperature,
        top_k=1 if request.top_p == 0 else None if request.top_k is None else max(0, request.top_k),
        top_p=request.top_p or None,
        min_p=request.min_p,
        repetition_penalty=request.repetition_penalty,
        presence_penalty=request.presence_penalty,
        frequency_penalty=request.frequency_penalty,
        logit_bias={_token_id(key): bias for key, bias in (request.logit_bias or {}).items()},
    )


def _token_id(key: str) -> int:
    if not _TOKEN_ID.fullmatch(key) or int(key) > UINT32_MAX:
        raise invalid("logit_bias", f"has the key {key[:40]!r}, which is not a token id")
    return int(key)


def _stop(request: SamplingRequest, limit: int | None) -> pb.StopConditions:
    return pb.StopConditions(
        strings=[request.stop] if isinstance(request.stop, str) else request.stop,
        token_ids=request.stop_token_ids,
        max_tokens=limit,
        min_tokens=request.min_tokens or 0,
        ignore_eos=bool(request.ignore_eos),
    )


def _format(request: SamplingRequest) -> pb.OutputFormat | None:
    wanted = request.response_format
    made: pb.OutputFormat | None = None
    if isinstance(wanted, JsonObjectFormat):
        made = pb.OutputFormat(json_schema="{}")
    elif isinstance(wanted, JsonSchemaFormat):
        schema, strict = wanted.json_schema.schema_ or {}, wanted.json_schema.strict
        text = _dump(schema, "response_format.json_schema.schema")
        made = pb.OutputFormat(json_schema=text, open_objects=None if strict is None else not strict)
    if request.structured_outputs is None:
        return made
    if made is not None:
        raise invalid("structured_outputs", "and a 'response_format' must not both be set")
    return _structured(request.structured_outputs)


def _structured(outputs: StructuredOutputs) -> pb.OutputFormat:
    if len(outputs.model_dump(exclude_none=True)) != 1:
        raise invalid("structured_outputs", "needs exactly one of json, regex, grammar, choice, json_object")
    if outputs.regex is not None:
        return pb.OutputFormat(regex=outputs.regex)
    if outputs.grammar is not None:
        return pb.OutputFormat(grammar=outputs.grammar)
    if outputs.choice is not None:
        return pb.OutputFormat(regex="|".join(_REGEX_SPECIAL.sub(r"\\\1", choice) for choice in outputs.choice))
    schema = outputs.json_ if outputs.json_ is not None else "{}"
    return pb.OutputFormat(json_schema=schema if isinstance(schema, str) else _dump(schema, "structured_outputs.json"))


def _fill_chat(chat: pb.ChatPrompt, request: ChatRequest) -> None:
    chat.messages.extend(_message(message, f"messages[{i}]") for i, message in enumerate(request.messages))
    if request.add_generation_prompt is not None:
        chat.add_generation_prompt = request.add_generation_prompt
    if request.chat_template_kwargs:
        chat.template_kwargs_json = _dump(request.chat_template_kwargs, "chat_template_kwargs")


def _message(message: Message, path: str) -> pb.ChatMessage:
    if message.content is None and not (message.role == "assistant" and message.tool_calls):
        raise invalid(f"{path}.content", "is required", reason="MISSING_REQUIRED_PARAMETER")
    if message.role == "tool" and message.tool_call_id is None:
        raise invalid(f"{path}.tool_call_id", "is required", reason="MISSING_REQUIRED_PARAMETER")
    if message.role != "tool" and message.tool_call_id is not None:
        raise invalid(f"{path}.tool_call_id", "is allowed only in a message with role 'tool'")
    if message.role != "assistant" and message.tool_calls:
        raise invalid(f"{path}.tool_calls", "is allowed only in a message with role 'assistant'")
    calls = [
        pb.ToolCall(id=call.id, name=call.function.name, arguments_json=call.function.arguments)
        for call in message.tool_calls or ()
    ]
    texts = _texts(message)
    return pb.ChatMessage(
        role=message.role,
        content=texts[0] if len(texts) == 1 else "",
        content_parts=texts if len(texts) > 1 else (),
        name=message.name or "",
        tool_calls=calls,
        tool_call_id=message.tool_call_id or "",
    )


def _texts(message: Message) -> list[str]:
    content = message.content or ""
    return [content] if isinstance(content, str) else [part.text for part in content if isinstance(part, TextPart)]


def _list_prompts(prompt: str | list[str] | list[int] | list[list[int]]) -> list[str | list[int]]:
    if isinstance(prompt, str):
        return [prompt]
    if isinstance(prompt[0], int):
        return [[token for token in prompt if isinstance(token, int)]]
    return [part for part in prompt if isinstance(part, str | list)]


def _with_prompt(base: pb.GenerateRequest, prompt: str | list[int]) -> pb.GenerateRequest:
    request = pb.GenerateRequest()
    request.CopyFrom(base)
    if isinstance(prompt, str):
        request.text = prompt
    else:
        data = b"".join(token.to_bytes(8, "little") for token in prompt)
        request.token_ids.CopyFrom(tensor_pb2.Tensor(dtype=tensor_pb2.DATA_TYPE_INT64, shape=[len(prompt)], data=data))
    return request


def _dump(value: object, path: str) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:  # 1e999 is valid JSON, but is read as infinity
        raise invalid(path, "contains a number that is too large") from None
