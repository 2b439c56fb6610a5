"""A conversation: its messages, their parts, and what its chat template is told."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BeforeValidator, ConfigDict, Discriminator, Field, Tag

from infermesh_router.openai.schema.fields import Strict, Unsupported, only


def content_tag(value: object) -> str:
    return "<parts>" if isinstance(value, list) else "<string>"


class TextPart(Strict):
    """A text part of a message; other types of part are refused."""

    HINTS: ClassVar[Mapping[str, tuple[object, ...]]] = {"cache_control": ()}

    type: Annotated[Literal["text"], only("text")]
    text: str
    cache_control: dict[str, Any] | None = None
    """Anthropic's; prompts are cached in any case."""


Content = Annotated[
    Annotated[str, Tag("<string>")] | Annotated[list["Part"], Field(min_length=1), Tag("<parts>")],
    Discriminator(content_tag),
]


def _to_url(value: object) -> object:
    """A URL alone → an object: some clients send it so."""
    return {"url": value} if isinstance(value, str) else value


class ImageUrl(Strict):
    """Where an image is, and how closely to look at it."""

    url: Annotated[str, Field(min_length=1)]
    """A data: URL in base64; an http(s) URL where the operator allows it."""
    detail: Literal["auto", "low", "high"] | None = None


class ImagePart(Strict):
    """An image."""

    HINTS: ClassVar[Mapping[str, tuple[object, ...]]] = {"cache_control": ()}

    type: Literal["image_url"]
    image_url: Annotated[ImageUrl, BeforeValidator(_to_url)]
    cache_control: dict[str, Any] | None = None


def _part_tag(value: object) -> str:
    kind = value.get("type") if isinstance(value, dict) else "text"
    if kind == "image_url":
        return "<image>"
    return "<text>" if kind == "text" or not isinstance(kind, str) else "<other>"


class OtherPart(Strict):
    """A sound or file, refused because of its type, whatever else it contains."""

    model_config = ConfigDict(extra="allow")

    type: Unsupported


Part = Annotated[
    Annotated[TextPart, Tag("<text>")] | Annotated[ImagePart, Tag("<image>")] | Annotated[OtherPart, Tag("<other>")],
    Discriminator(_part_tag),
]


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

    HINTS: ClassVar[Mapping[str, tuple[object, ...]]] = {"cache_control": (), "annotations": ([],)}

    role: Literal["system", "developer", "user", "assistant", "tool", "function"]
    """"function" is the deprecated form of "tool", which names the function instead of the call."""
    content: Content | None = None
    """Null in a message of the assistant is an empty text."""
    name: str | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None
    reasoning_content: str | None = None
    """The reasoning before an earlier answer; the chat template decides whether it is shown."""
    reasoning: str | None = None
    """Newer name of `reasoning_content`."""
    cache_control: dict[str, Any] | None = None
    refusal: Unsupported = None
    audio: Unsupported = None
    function_call: FunctionCall | None = None
    """The deprecated form of `tool_calls`."""
    annotations: list[Any] | None = None
    """Clients that append our answer to the conversation send it back."""


class Conversation(Strict):
    """A conversation, and what its chat template is told."""

    messages: Annotated[list[Message], Field(min_length=1)]
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    """For the chat template, if it takes it; "none" also turns thinking off there."""
    verbosity: Literal["low", "medium", "high"] | None = None
    """For the chat template, if it takes it."""

    # vLLM's extensions
    chat_template_kwargs: dict[str, Any] | None = None
    enable_thinking: bool | None = None
    """Qwen's, short for the same name in chat_template_kwargs."""
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    """Leaves the last message open, so that the answer continues it."""
