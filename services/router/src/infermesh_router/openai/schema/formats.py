"""The formats that a body may demand of the output: OpenAI's response_format and vLLM's structured outputs."""

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag

from infermesh_router.openai.schema.fields import NonEmpty, Strict, Unsupported, only


class TextFormat(Strict):
    """Free text."""

    type: Literal["text"]


class JsonObjectFormat(Strict):
    """Any JSON object."""

    type: Literal["json_object"]
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    """llama.cpp's extension: the object follows this schema."""


class JsonSchema(Strict):
    """A named JSON schema. It is always enforced; `strict: false` only allows members that it does not list."""

    name: Annotated[str, Field(pattern=r"^[a-zA-Z0-9_-]{1,64}$")]
    description: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")
    strict: bool | None = None


class JsonSchemaFormat(Strict):
    """JSON that follows a schema."""

    type: Literal["json_schema"]
    json_schema: JsonSchema


_FORMATS = ("text", "json_object", "json_schema")


def _format_tag(value: object) -> str | None:
    kind = value.get("type") if isinstance(value, dict) else None
    return f"<{kind}>" if kind in _FORMATS else None


ResponseFormat = Annotated[
    Annotated[TextFormat, Tag("<text>")]
    | Annotated[JsonObjectFormat, Tag("<json_object>")]
    | Annotated[JsonSchemaFormat, Tag("<json_schema>")],
    Discriminator(
        _format_tag,
        custom_error_type="response_format",
        custom_error_message='must be an object whose "type" is "text", "json_object" or "json_schema"',
    ),
]


def _schema_tag(value: object) -> str:
    return "<string>" if isinstance(value, str) else "<object>"


Schema = Annotated[
    Annotated[str, Tag("<string>")] | Annotated[dict[str, Any], Tag("<object>")], Discriminator(_schema_tag)
]
"""A JSON schema, as an object or as JSON text."""
Choices = Annotated[list[NonEmpty], Field(min_length=1, fail_fast=True)]
"""The texts of which the output is one."""


class StructuredOutputs(Strict):
    """vLLM's constraints on the output; exactly one of them must be set."""

    json_: Schema | None = Field(None, alias="json")
    regex: str | None = None
    grammar: str | None = None
    choice: Choices | None = None
    json_object: Annotated[bool | None, only(True)] = None
    structural_tag: Unsupported = None
    disable_fallback: bool | None = None
    """Has no effect, as there is only one engine for grammars."""
    disable_any_whitespace: Annotated[bool | None, only(False)] = None
    disable_additional_properties: bool | None = None
    """Whether objects of the schema are closed where it does not say."""
    whitespace_pattern: Unsupported = None
