"""The items of which the input of a response consists: messages, calls, their results, reasoning, references."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Discriminator, Field, Tag

from infermesh_router.openai.schema.fields import NonEmpty, Strict, Unsupported

Status = Literal["in_progress", "completed", "incomplete"]


def _content_tag(value: object) -> str:
    return "<parts>" if isinstance(value, list) else "<string>"


class TextPart(Strict):
    """A piece of text: what was put in, or what a model wrote."""

    type: Literal["input_text", "output_text", "text"]
    text: str
    annotations: list[Any] | None = None
    logprobs: list[Any] | None = None
    """Clients send a model's text back as it came."""
    prompt_cache_breakpoint: dict[str, Any] | None = None
    """Prompts are cached in any case."""


class RefusalPart(Strict):
    """A refusal that another server's model wrote."""

    type: Literal["refusal"]
    refusal: str


class ImagePart(Strict):
    """An image."""

    type: Literal["input_image"]
    file_id: Unsupported = None
    image_url: NonEmpty | None = None
    """A data: URL in base64; an http(s) URL where the operator allows it."""
    detail: Literal["auto", "low", "high", "original"] | None = None
    prompt_cache_breakpoint: dict[str, Any] | None = None


class OtherPart(Strict):
    """A sound or file, refused because of its type, whatever else it contains."""

    model_config = ConfigDict(extra="allow")

    type: Unsupported


def _part_tag(value: object) -> str:
    kind = value.get("type") if isinstance(value, dict) else getattr(value, "type", "text")
    if kind in ("refusal", "input_image"):
        return f"<{kind}>"
    return "<text>" if kind in ("input_text", "output_text", "text") or not isinstance(kind, str) else "<other>"


Part = Annotated[
    Annotated[TextPart, Tag("<text>")]
    | Annotated[RefusalPart, Tag("<refusal>")]
    | Annotated[ImagePart, Tag("<input_image>")]
    | Annotated[OtherPart, Tag("<other>")],
    Discriminator(_part_tag),
]
Content = Annotated[
    Annotated[str, Tag("<string>")] | Annotated[list[Part], Tag("<parts>")],
    Discriminator(_content_tag),
]


class MessageItem(Strict):
    """A message of the conversation."""

    type: Literal["message"] | None = None
    role: Literal["user", "assistant", "system", "developer"]
    content: Content
    id: str | None = None
    status: Status | None = None
    phase: Literal["commentary", "final_answer"] | None = None


class FunctionCallItem(Strict):
    """A call that the model made."""

    type: Literal["function_call"]
    call_id: NonEmpty
    name: NonEmpty
    arguments: str
    id: str | None = None
    status: Status | None = None


class FunctionCallOutputItem(Strict):
    """The result of a call."""

    type: Literal["function_call_output"]
    call_id: NonEmpty
    output: Content
    id: str | None = None
    status: Status | None = None
    name: str | None = None


class ReasoningPart(Strict):
    """A piece of reasoning, or of its summary."""

    type: Literal["reasoning_text", "summary_text"]
    text: str


class ReasoningItem(Strict):
    """What the model thought before an earlier answer; the chat template decides whether it is shown."""

    type: Literal["reasoning"]
    id: str | None = None
    summary: list[ReasoningPart] | None = None
    content: list[ReasoningPart] | None = None
    encrypted_content: str | None = None
    """Has no effect: this server gives its reasoning in the clear."""
    status: Status | None = None


class ReferenceItem(Strict):
    """An item that the router keeps, named by its id."""

    type: Literal["item_reference"] | None = None
    id: NonEmpty


class OtherItem(Strict):
    """An item of a hosted tool, refused because of its type, whatever else it contains."""

    model_config = ConfigDict(extra="allow")

    type: Unsupported


_KINDS = ("message", "function_call", "function_call_output", "reasoning", "item_reference")


def _item_tag(value: object) -> str:
    if not isinstance(value, dict):
        return "<message>"
    kind = value.get("type")
    if kind is None:
        return "<item_reference>" if "id" in value and "role" not in value else "<message>"
    return f"<{kind}>" if kind in _KINDS else "<other>"


Item = MessageItem | FunctionCallItem | FunctionCallOutputItem | ReasoningItem | ReferenceItem | OtherItem
AnyItem = Annotated[
    Annotated[MessageItem, Tag("<message>")]
    | Annotated[FunctionCallItem, Tag("<function_call>")]
    | Annotated[FunctionCallOutputItem, Tag("<function_call_output>")]
    | Annotated[ReasoningItem, Tag("<reasoning>")]
    | Annotated[ReferenceItem, Tag("<item_reference>")]
    | Annotated[OtherItem, Tag("<other>")],
    Discriminator(_item_tag),
]


def _input_tag(value: object) -> str:
    return "<items>" if isinstance(value, list) else "<string>"


Input = Annotated[
    Annotated[str, Tag("<string>")] | Annotated[list[AnyItem], Field(), Tag("<items>")],
    Discriminator(_input_tag),
]
"""A text, which is a message of the user, or items."""
