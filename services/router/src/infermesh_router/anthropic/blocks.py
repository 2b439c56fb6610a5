"""The content of Anthropic's messages: blocks of text, thinking, tool calls and their results."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from infermesh_router.openai.schema.fields import NonEmpty, Strict, Unsupported


def _kind(value: object) -> object:
    return value.get("type") if isinstance(value, dict) else getattr(value, "type", None)


class _Cached(Strict):
    cache_control: dict[str, Any] | None = None
    """Prompts are cached in any case."""


class TextBlock(_Cached):
    """Text."""

    type: Literal["text"]
    text: str
    citations: list[Any] | None = None


class ThinkingBlock(Strict):
    """What the model thought in an earlier turn."""

    type: Literal["thinking"]
    thinking: str
    signature: str | None = None
    """Accepted as it is, from whoever made it."""


class RedactedThinkingBlock(Strict):
    """Thinking that only Anthropic's own servers can read."""

    type: Literal["redacted_thinking"]
    data: str


class ToolUseBlock(_Cached):
    """A tool call that the model made."""

    type: Literal["tool_use"]
    id: NonEmpty
    name: NonEmpty
    input: dict[str, Any]
    caller: dict[str, Any] | None = None
    toolset_name: str | None = None


class Base64Source(Strict):
    """The bytes of an image."""

    type: Literal["base64"]
    media_type: Literal["image/jpeg", "image/png", "image/gif", "image/webp"]
    data: NonEmpty


class UrlSource(Strict):
    """Where an image is: an http(s) URL, where the operator allows it."""

    type: Literal["url"]
    url: NonEmpty


class OtherSource(Strict):
    """A file of Anthropic's, refused because of its type, whatever else it contains."""

    model_config = ConfigDict(extra="allow")

    type: Unsupported


def _source_tag(value: object) -> str:
    kind = _kind(value)
    return f"<{kind}>" if kind in ("base64", "url") else "<other>"


class ImageBlock(_Cached):
    """An image."""

    type: Literal["image"]
    source: Annotated[
        Annotated[Base64Source, Tag("<base64>")]
        | Annotated[UrlSource, Tag("<url>")]
        | Annotated[OtherSource, Tag("<other>")],
        Discriminator(_source_tag),
    ]

    @property
    def url(self) -> str:
        """Where it is; a data: URL for one whose bytes were sent."""
        match self.source:
            case Base64Source(media_type=media_type, data=data):
                return f"data:{media_type};base64,{data}"
            case UrlSource(url=url):
                return url
            case _:
                return ""


class OtherBlock(Strict):
    """A document or the like, refused because of its type, whatever else it contains."""

    model_config = ConfigDict(extra="allow")

    type: Unsupported


def _text_tag(value: object) -> str:
    return "<text>" if _kind(value) == "text" else "<other>"


TextOnly = Annotated[
    Annotated[TextBlock, Tag("<text>")] | Annotated[OtherBlock, Tag("<other>")], Discriminator(_text_tag)
]
"""A block where only text can be."""


def _content_tag(value: object) -> str:
    return "<blocks>" if isinstance(value, list) else "<string>"


Texts = Annotated[
    Annotated[str, Tag("<string>")] | Annotated[list[TextOnly], Tag("<blocks>")], Discriminator(_content_tag)
]
"""Text, or blocks of it."""


def _shown_tag(value: object) -> str:
    return "<image>" if _kind(value) == "image" else _text_tag(value)


ShownBlock = Annotated[
    Annotated[TextBlock, Tag("<text>")] | Annotated[ImageBlock, Tag("<image>")] | Annotated[OtherBlock, Tag("<other>")],
    Discriminator(_shown_tag),
]
Shown = Annotated[
    Annotated[str, Tag("<string>")] | Annotated[list[ShownBlock], Tag("<blocks>")], Discriminator(_content_tag)
]
"""Text, or blocks of text and images."""


class ToolResultBlock(_Cached):
    """What a tool answered."""

    type: Literal["tool_result"]
    tool_use_id: NonEmpty
    content: Shown | None = None
    is_error: bool | None = None
    toolset_name: str | None = None


_KNOWN = ("text", "image", "thinking", "redacted_thinking", "tool_use", "tool_result")


def _block_tag(value: object) -> str:
    kind = _kind(value)
    return f"<{kind}>" if kind in _KNOWN else "<other>"


Block = Annotated[
    Annotated[TextBlock, Tag("<text>")]
    | Annotated[ImageBlock, Tag("<image>")]
    | Annotated[ThinkingBlock, Tag("<thinking>")]
    | Annotated[RedactedThinkingBlock, Tag("<redacted_thinking>")]
    | Annotated[ToolUseBlock, Tag("<tool_use>")]
    | Annotated[ToolResultBlock, Tag("<tool_result>")]
    | Annotated[OtherBlock, Tag("<other>")],
    Discriminator(_block_tag),
]
Content = Annotated[
    Annotated[str, Tag("<string>")] | Annotated[list[Block], Tag("<blocks>")], Discriminator(_content_tag)
]


class Message(Strict):
    """One message of a conversation."""

    role: Literal["user", "assistant", "system"]
    content: Content


Messages = Annotated[list[Message], Field(min_length=1)]
