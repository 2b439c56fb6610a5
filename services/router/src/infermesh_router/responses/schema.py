"""The body of /v1/responses."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from infermesh_router.openai.schema.fields import (
    MAX_LOGPROBS,
    Limit,
    NonEmpty,
    Penalty,
    Ratio,
    Stop,
    Strict,
    Unsupported,
    UnsupportedList,
    only,
)
from infermesh_router.openai.schema.formats import JsonObjectFormat, TextFormat
from infermesh_router.openai.schema.shared import MAX_DEADLINE_MS
from infermesh_router.requests.call import MAX_PRIORITY
from infermesh_router.responses.items import Input
from infermesh_router.responses.tools import Tool, ToolChoice

LOGPROBS = "message.output_text.logprobs"
_ENCRYPTED = "reasoning.encrypted_content"
_OF_HOSTED_TOOLS = (
    "file_search_call.results",
    "web_search_call.results",
    "web_search_call.action.sources",
    "message.input_image.image_url",
    "computer_call_output.output.image_url",
    "code_interpreter_call.outputs",
)
"""Values of `include` that add nothing to an answer without hosted tools and images, with OpenAI either."""


def _check_included(values: list[str]) -> list[str]:
    known = (LOGPROBS, _ENCRYPTED, *_OF_HOSTED_TOOLS)
    for value in values:
        if value not in known:
            raise PydanticCustomError(
                "included", "must contain only these values: {known}", {"known": ", ".join(map(repr, known))}
            )
    return values


class JsonSchemaFormat(Strict):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    schema_: dict[str, Any] = Field(alias="schema")
    description: str | None = None
    strict: bool | None = None


def _format_tag(value: object) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else None
    return f"<{kind}>" if kind in ("text", "json_object", "json_schema") else None


Format = Annotated[
    Annotated[TextFormat, Tag("<text>")]
    | Annotated[JsonObjectFormat, Tag("<json_object>")]
    | Annotated[JsonSchemaFormat, Tag("<json_schema>")],
    Discriminator(
        _format_tag,
        custom_error_type="text_format",
        custom_error_message='must be an object whose "type" is "text", "json_object" or "json_schema"',
    ),
]


class TextOptions(Strict):
    """What the text is to be like."""

    format: Format | None = None
    verbosity: Literal["low", "medium", "high"] | None = None


class ReasoningOptions(Strict):
    """How the model is to reason."""

    effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    summary: Literal["auto", "concise", "detailed"] | None = None
    """Has no effect: the response contains the whole reasoning."""
    generate_summary: Literal["auto", "concise", "detailed"] | None = None
    """Older name of `summary`."""


class ResponseStreamOptions(Strict):
    """What a stream contains besides its events."""

    include_obfuscation: Annotated[bool | None, only(False)] = None


class ResponseRequest(Strict):
    """The body of /v1/responses. Ranges are OpenAI's; a field says so if ours is wider."""

    HINTS: ClassVar[Mapping[str, tuple[object, ...]]] = {
        "service_tier": ("auto", "default"),
        "prompt_cache_retention": ("in_memory", "in-memory"),
        "prompt_cache_options": ({},),
    }
    """Fields without an effect, and the values that are no news; see `SamplingRequest.HINTS`."""

    model: NonEmpty
    input: Input | None = None
    instructions: str | None = None
    previous_response_id: NonEmpty | None = None
    store: bool | None = None
    stream: bool | None = None
    stream_options: ResponseStreamOptions | None = None
    include: Annotated[list[str], AfterValidator(_check_included)] | None = None

    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    max_tool_calls: Annotated[int, Field(ge=1)] | None = None
    """Of hosted tools, of which there are none."""

    text: TextOptions | None = None
    reasoning: ReasoningOptions | None = None
    max_output_tokens: Limit | None = None
    """OpenAI wants at least 16."""
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Ratio | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    truncation: Literal["auto", "disabled"] | None = None
    """"auto" drops the beginning of a prompt that is too long."""

    metadata: dict[str, str] | None = None
    user: str | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    prompt_cache_options: dict[str, Any] | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority"] | None = None

    background: Annotated[bool | None, only(False)] = None
    conversation: Unsupported = None
    prompt: Unsupported = None
    context_management: UnsupportedList = None
    moderation: Unsupported = None

    # extensions that chats take too; see SamplingRequest and Conversation
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    stop: Stop | None = None
    top_k: Annotated[int, Field(ge=-1, le=2**31 - 1)] | None = None
    min_p: Ratio | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    enable_thinking: bool | None = None
    cache_salt: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    priority: Annotated[int, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] | None = None
    device: str | None = None
    session_id: str | None = None
    deadline_ms: Annotated[int, Field(ge=1, le=MAX_DEADLINE_MS)] | None = None

    @property
    def wants_logprobs(self) -> bool:
        """Whether the response is to have the log probabilities of its tokens."""
        return LOGPROBS in (self.include or ()) or bool(self.top_logprobs)

    def hints(self) -> tuple[str, ...]:
        """The paths of the fields that were set and have no effect."""
        found = [name for name, neutral in self.HINTS.items() if getattr(self, name) not in (None, *neutral)]
        if self.reasoning is not None:
            names = ("summary", "generate_summary")
            found += [f"reasoning.{name}" for name in names if getattr(self.reasoning, name) is not None]
        return (*found, "include[]") if _ENCRYPTED in (self.include or ()) else tuple(found)


RESPONSE_BODIES: Mapping[str, tuple[type[BaseModel], ...]] = {"CreateResponse": (ResponseRequest,)}
"""The schemas of the bodies that the calls of /v1/responses take."""
