"""The bodies of /v1/chat/completions and /v1/completions: every field is either honoured or refused by name.

Fields that never affect an answer, such as metadata, are accepted and ignored. Ranges are OpenAI's; a field says so if
ours is wider.
"""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from infermesh_router.openai.fields import (
    MAX_CHOICES,
    MAX_LOGPROBS,
    Bias,
    Count,
    Penalty,
    Ratio,
    ResponseFormat,
    Stop,
    StreamOptions,
    Strict,
    StructuredOutputs,
    TokenId,
    TokenIds,
    Unsupported,
    UnsupportedList,
    only,
)
from infermesh_router.requests.call import MAX_PRIORITY


class SamplingRequest(Strict):
    """The fields that chat and text completions share."""

    model: Annotated[str, Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Ratio | None = None
    """0 leaves only the most probable token, as with OpenAI; in the gRPC contract it is above 0."""
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Bias] | None = None
    stop: Stop | None = None
    max_tokens: Count | None = None
    user: str | None = None

    # vLLM's extensions, at the top level as in vLLM
    top_k: Annotated[int, Field(ge=-1, le=2**31 - 1)] | None = None
    min_p: Ratio | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    min_tokens: TokenId | None = None
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[TokenId], Field(fail_fast=True)] | None = None
    structured_outputs: StructuredOutputs | None = None
    response_format: ResponseFormat | None = None
    priority: Annotated[int, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] | None = None
    """As in vLLM, smaller is served earlier; in the gRPC contract it is the other way round."""

    # our own extensions
    device: str | None = None
    session_id: str | None = None


def _content_tag(value: object) -> str:
    return "<parts>" if isinstance(value, list) else "<string>"


class TextPart(Strict):
    """A text part of a message; other types of part are refused."""

    type: Annotated[Literal["text"], only("text")]
    text: str


Content = Annotated[
    Annotated[str, Tag("<string>")] | Annotated[list["Part"], Field(min_length=1), Tag("<parts>")],
    Discriminator(_content_tag),
]


def _part_tag(value: object) -> str:
    kind = value.get("type") if isinstance(value, dict) else "text"
    return "<text>" if kind == "text" or not isinstance(kind, str) else "<other>"


class OtherPart(Strict):
    """An image, sound or file, refused because of its type, whatever else it contains."""

    model_config = ConfigDict(extra="allow")

    type: Unsupported


Part = Annotated[Annotated[TextPart, Tag("<text>")] | Annotated[OtherPart, Tag("<other>")], Discriminator(_part_tag)]


class FunctionCall(Strict):
    """The function that a tool call names."""

    name: Annotated[str, Field(min_length=1)]
    arguments: str


class ToolCall(Strict):
    """A tool call that the assistant made."""

    id: Annotated[str, Field(min_length=1)]
    type: Annotated[Literal["function"], only("function")]
    function: FunctionCall


class Message(Strict):
    """One message of a conversation."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Content | None = None
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    refusal: Unsupported = None
    audio: Unsupported = None
    function_call: Unsupported = None
    annotations: Annotated[list[Any] | None, only([])] = None
    """Clients that append our answer to the conversation send it back."""


class ChatRequest(SamplingRequest):
    """The body of /v1/chat/completions."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Count | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None

    # these do not affect the answer
    metadata: dict[str, str] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    """Serves as the session if `session_id` is not set: both ask for the endpoint whose cache has the prompt."""
    parallel_tool_calls: bool | None = None
    """Has no effect, because tools are not supported."""

    # only values that do not affect the answer are supported
    store: Annotated[bool | None, only(False)] = None
    service_tier: Annotated[str | None, only("auto", "default")] = None
    modalities: Annotated[list[str] | None, only(["text"])] = None
    tool_choice: Annotated[str | None, only("none", "auto")] = None
    function_call: Annotated[str | None, only("none", "auto")] = None
    reasoning_effort: Annotated[str | None, only("none")] = None
    verbosity: Annotated[str | None, only("medium")] = None
    prompt_cache_retention: Annotated[str | None, only("in_memory", "in-memory")] = None

    tools: UnsupportedList = None
    functions: UnsupportedList = None
    audio: Unsupported = None
    moderation: Unsupported = None
    prediction: Unsupported = None
    prompt_cache_options: Unsupported = None
    web_search_options: Unsupported = None

    # vLLM's extensions
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | None = None


def _prompt_tag(value: object) -> str:
    if not isinstance(value, list):
        return "<string>"
    first = value[0] if value else ""
    if isinstance(first, str):
        return "<strings>"
    return "<token lists>" if isinstance(first, list) else "<tokens>"


MAX_PROMPTS = 1024

Prompt = Annotated[
    Annotated[str, Tag("<string>")]
    | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS), Tag("<strings>")]
    | Annotated[TokenIds, Tag("<tokens>")]
    | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_PROMPTS), Tag("<token lists>")],
    Discriminator(_prompt_tag),
]


class CompletionRequest(SamplingRequest):
    """The body of /v1/completions."""

    prompt: Prompt
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    """OpenAI allows up to 5."""
    best_of: int | None = None
    """Must equal `n`, which is also its default."""
    echo: Annotated[bool | None, only(False)] = None
    suffix: Annotated[str | None, only("")] = None
