"""The types and limits of fields in OpenAI's request bodies."""

import json
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
from pydantic_core import PydanticCustomError

UINT32_MAX = 2**32 - 1
MAX_STOP_STRINGS = 16
MAX_CHOICES = 128
MAX_LOGPROBS = 20


class Strict(BaseModel):
    """An object with exactly these fields, without conversion between types."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)


def _show(value: object) -> str:
    return f"{value!r} " if isinstance(value, str) and len(value) <= 40 else ""


def _refuse(value: object) -> None:
    """Refuses a field that this server does not support, unless it is null."""
    if value is not None:
        raise PydanticCustomError("unsupported", "{shown}is not supported by this server", {"shown": _show(value)})


def _refuse_filled(value: object) -> None:
    if value != []:
        _refuse(value)


Unsupported = Annotated[None, BeforeValidator(_refuse)]
UnsupportedList = Annotated[None, BeforeValidator(_refuse_filled)]
"""Like Unsupported, but accepts empty lists too: frameworks send them to mean "none"."""


def only(*values: Any) -> BeforeValidator:
    """Refuses any value but `values`, saying that only these are supported."""

    def check(value: object) -> object:
        if value is not None and not any(value == v and type(value) is type(v) for v in values):
            shown = ", ".join(json.dumps(v) for v in values)
            raise PydanticCustomError("unsupported", "supports only {shown} on this server", {"shown": shown})
        return value

    return BeforeValidator(check)


def _string_or_list(value: object) -> str:
    return "<list>" if isinstance(value, list) else "<string>"


_Text = Annotated[str, Field(min_length=1)]
Stop = Annotated[
    Annotated[_Text, Tag("<string>")] | Annotated[list[_Text], Field(max_length=MAX_STOP_STRINGS), Tag("<list>")],
    Discriminator(_string_or_list),
]
"""A string, or up to 16 of them (OpenAI allows 4)."""

Ratio = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
Count = Annotated[int, Field(ge=1, le=UINT32_MAX)]
TokenId = Annotated[int, Field(ge=0, le=UINT32_MAX)]
TokenIds = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]
"""The first wrong one is told: a list of millions of problems would take longer than the rest."""
Bias = Annotated[float, Field(ge=-100, le=100)]


class StreamOptions(Strict):
    """What a stream contains besides its text."""

    include_usage: bool | None = None
    include_obfuscation: Annotated[bool | None, only(False)] = None


class TextFormat(Strict):
    """Free text."""

    type: Literal["text"]


class JsonObjectFormat(Strict):
    """Any JSON object."""

    type: Literal["json_object"]


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


class StructuredOutputs(Strict):
    """vLLM's constraints on the output; exactly one of them must be set."""

    json_: (
        Annotated[
            Annotated[str, Tag("<string>")] | Annotated[dict[str, Any], Tag("<object>")], Discriminator(_schema_tag)
        ]
        | None
    ) = Field(None, alias="json")
    regex: str | None = None
    grammar: str | None = None
    choice: Annotated[list[_Text], Field(min_length=1, fail_fast=True)] | None = None
    json_object: Annotated[bool | None, only(True)] = None
