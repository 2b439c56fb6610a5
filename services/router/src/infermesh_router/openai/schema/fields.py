"""The types and limits of single fields in OpenAI's request bodies."""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Discriminator, Field, Tag
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


NonEmpty = Annotated[str, Field(min_length=1)]
Stop = Annotated[
    Annotated[NonEmpty, Tag("<string>")] | Annotated[list[NonEmpty], Field(max_length=MAX_STOP_STRINGS), Tag("<list>")],
    Discriminator(_string_or_list),
]
"""A string, or up to 16 of them (OpenAI allows 4)."""

Ratio = Annotated[float, Field(ge=0, le=1)]
Penalty = Annotated[float, Field(ge=-2, le=2)]
UNLIMITED = -1
"""As a limit of tokens: none, as with llama.cpp and Ollama."""


def _check_limit(value: int) -> int:
    if value != UNLIMITED and not 1 <= value <= UINT32_MAX:
        raise PydanticCustomError("limit", "Input should be at least 1, or -1 for no limit")
    return value


def _check_echo_limit(value: int) -> int:
    return value and _check_limit(value)


Limit = Annotated[int, Field(le=UINT32_MAX), AfterValidator(_check_limit)]
EchoLimit = Annotated[int, Field(le=UINT32_MAX), AfterValidator(_check_echo_limit)]
"""A limit that may also be 0."""
TokenId = Annotated[int, Field(ge=0, le=UINT32_MAX)]
TokenIds = Annotated[list[TokenId], Field(min_length=1, fail_fast=True)]
"""The first wrong one is told: a list of millions of problems would take longer than the rest."""
Bias = Annotated[float, Field(ge=-100, le=100)]


class StreamOptions(Strict):
    """What a stream contains besides its text."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None
    """vLLM's: every chunk has the usage so far. Needs `include_usage`."""
    include_obfuscation: Annotated[bool | None, only(False)] = None
