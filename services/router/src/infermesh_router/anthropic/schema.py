"""The bodies of /v1/messages and /v1/messages/count_tokens."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

from infermesh_router.anthropic.blocks import Messages, Texts
from infermesh_router.openai.schema.fields import (
    MAX_STOP_STRINGS,
    UINT32_MAX,
    NonEmpty,
    Ratio,
    Strict,
    Unsupported,
    UnsupportedList,
)
from infermesh_router.openai.schema.shared import MAX_DEADLINE_MS


def _refuse_server_tools(value: object) -> object:
    if value not in (None, "custom"):
        shown = f"'{value}' " if isinstance(value, str) and len(value) <= 40 else ""
        raise PydanticCustomError(
            "unsupported",
            "{shown}is a tool of Anthropic's own; this server supports only tools with an 'input_schema'",
            {"shown": shown},
        )
    return value


class CustomTool(Strict):
    """A tool that the client runs."""

    HINTS: ClassVar[Mapping[str, tuple[object, ...]]] = {
        "allowed_callers": (["direct"],),
        "defer_loading": (False,),
        "input_examples": ([],),
    }

    type: Annotated[Literal["custom"] | None, BeforeValidator(_refuse_server_tools)] = None
    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,128}$")]
    description: str | None = None
    input_schema: dict[str, Any]
    strict: bool | None = None
    cache_control: dict[str, Any] | None = None
    eager_input_streaming: bool | None = None
    """Arguments are always streamed as they are written."""
    allowed_callers: list[str] | None = None
    defer_loading: bool | None = None
    input_examples: list[Any] | None = None


class ServerTool(Strict):
    """A tool that Anthropic's servers run or that its models were trained for, refused because of its type."""

    model_config = ConfigDict(extra="allow")

    type: Annotated[None, BeforeValidator(_refuse_server_tools)]


def _tool_tag(value: object) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", None)
    return "<custom>" if kind in (None, "custom") else "<other>"


Tool = Annotated[
    Annotated[CustomTool, Tag("<custom>")] | Annotated[ServerTool, Tag("<other>")], Discriminator(_tool_tag)
]


class ToolChoice(Strict):
    """Whether the model must call a tool, and which."""

    type: Literal["auto", "any", "tool", "none"]
    name: NonEmpty | None = None
    disable_parallel_tool_use: bool | None = None


class Thinking(Strict):
    """Whether the model thinks before it answers."""

    type: Literal["enabled", "disabled", "adaptive"]
    budget_tokens: Annotated[int, Field(ge=1, le=UINT32_MAX)] | None = None
    display: Literal["summarized", "omitted"] | None = None


class JsonFormat(Strict):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    schema_: dict[str, Any] = Field(alias="schema")
    name: str | None = None


class OutputConfig(Strict):
    """How much effort the answer takes, and its format."""

    effort: Literal["low", "medium", "high", "xhigh", "max"] | None = None
    format: JsonFormat | None = None
    task_budget: Unsupported = None


class Metadata(Strict):
    """Who asks."""

    user_id: str | None = None


class CountBody(Strict):
    """The body of /v1/messages/count_tokens: what makes the prompt."""

    HINTS: ClassVar[Mapping[str, tuple[object, ...]]] = {
        "context_management": ({},),
        "diagnostics": ({},),
        "inference_geo": ("global",),
        "service_tier": ("auto",),
        "speed": ("standard",),
        "user_profile_id": (),
        "workspace_id": (),
    }
    """Fields that are accepted without an effect, and the values that change nothing."""

    model: NonEmpty
    messages: Messages
    system: Texts | None = None
    tools: list[Tool] | None = None
    tool_choice: ToolChoice | None = None
    thinking: Thinking | None = None
    output_config: OutputConfig | None = None
    output_format: JsonFormat | None = None
    """Older name of `output_config.format`."""
    cache_control: dict[str, Any] | None = None
    """Prompts are cached in any case."""
    context_management: dict[str, Any] | None = None
    diagnostics: dict[str, Any] | None = None
    inference_geo: str | None = None
    service_tier: Literal["auto", "standard_only"] | None = None
    speed: Literal["standard", "fast"] | None = None
    user_profile_id: str | None = None
    workspace_id: str | None = None
    thread: dict[str, Any] | None = None
    """Refused, in a way after which Anthropic's package sends whole conversations."""
    container: Unsupported = None
    mcp_servers: UnsupportedList = None

    # our own extensions
    device: str | None = None
    chat_template_kwargs: dict[str, Any] | None = None


class MessagesBody(CountBody):
    """The body of /v1/messages."""

    max_tokens: Annotated[int, Field(ge=1, le=UINT32_MAX)]
    stream: bool | None = None
    stop_sequences: Annotated[list[NonEmpty], Field(max_length=MAX_STOP_STRINGS)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    """Anthropic's goes to 1; up to 2 is possible here."""
    top_p: Ratio | None = None
    top_k: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    metadata: Metadata | None = None

    # our own extensions
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    session_id: str | None = None
    deadline_ms: Annotated[int, Field(ge=1, le=MAX_DEADLINE_MS)] | None = None
