"""The body of /v2/models/NAME/generate, and the completion that it stands for."""

from typing import Any

import orjson
from pydantic import ConfigDict, Field

from infermesh_router.kserve.infer.parameters import EMPTY_FINAL, bad_parameter
from infermesh_router.openai.errors import invalid
from infermesh_router.openai.parse import parse_json
from infermesh_router.openai.schema.fields import Strict

INPUT, OUTPUT = "text_input", "text_output"
STREAM, EXCLUDE, SAMPLING = "stream", "exclude_input_in_output", "sampling_parameters"
_TEXTS = frozenset({"stop", "user", "cache_salt", "device", "session_id", "grammar", "guided_regex", "guided_grammar"})
"""Sampling parameters that are texts; others that come as texts are numbers or truth values written out."""
_REFUSED = {
    **dict.fromkeys(("n", "best_of"), "must be 1: a request has one answer"),
    **dict.fromkeys(
        ("logprobs", "prompt_logprobs", "return_token_ids", "stream_options"),
        "is not supported: the answer is text alone",
    ),
    "echo": f"is not supported here; use {EXCLUDE} false",
    "prompt": f"is not supported here; the text is {INPUT}",
    "model": "is not supported here; the path names the model",
}
_SEQUENCE = "sequence_"
_US_PER_MS = 1000


class GenerateBody(Strict):
    """A text to continue. Sampling parameters stand beside it, in `parameters`, or in `sampling_parameters`."""

    model_config = ConfigDict(extra="allow")

    text_input: str = Field(min_length=1)
    id: str | None = None
    stream: bool | None = None
    parameters: dict[str, Any] | None = None
    sampling_parameters: str | dict[str, Any] | None = None
    """vLLM's backend for Triton takes them as JSON text, in which numbers may be texts."""
    exclude_input_in_output: bool | None = None
    """False: the answer begins with the text. Default true."""


def completion_fields(body: GenerateBody) -> dict[str, Any]:
    """The fields of the completion, without `model` and `stream`. Raises InvalidArgument."""
    fields: dict[str, Any] = dict(body.model_extra or {})
    for name, value in (body.parameters or {}).items():
        if name.startswith(_SEQUENCE):
            raise bad_parameter(name, "is not supported: models here keep nothing from one request to the next")
        if name in (STREAM, EXCLUDE, EMPTY_FINAL):  # these are read elsewhere
            continue
        fields[name] = value
    fields |= _sampling(body.sampling_parameters)
    timeout_us = fields.pop("timeout", None)
    if timeout_us is not None:
        if isinstance(timeout_us, bool) or not isinstance(timeout_us, int) or timeout_us < 0:
            raise bad_parameter("timeout", "must be a whole number of microseconds")
        fields["deadline_ms"] = max(1, timeout_us // _US_PER_MS) if timeout_us else None
    for name, problem in _REFUSED.items():
        if fields.get(name) is not None and not (problem.startswith("must be 1") and fields[name] == 1):
            raise invalid(name, problem)
    return {**fields, "prompt": body.text_input}


def read_flag(body: GenerateBody, name: str) -> bool | None:
    """A flag that stands in the body or in its parameters; None if in neither. Raises InvalidArgument."""
    value = getattr(body, name, None)
    if value is None:
        value = (body.parameters or {}).get(name)
    if value is None or isinstance(value, bool):
        return value
    raise bad_parameter(name, "must be true or false")


def _sampling(given: str | dict[str, Any] | None) -> dict[str, Any]:
    if not given:
        return {}
    fields = given if isinstance(given, dict) else parse_json(given.encode())
    return {name: _number(value) if name not in _TEXTS else value for name, value in fields.items()}


def _number(value: Any) -> Any:
    """The number or truth value that a text stands for; anything else as it is."""
    if not isinstance(value, str):
        return value
    try:
        read = orjson.loads(value.lower())
    except orjson.JSONDecodeError:
        return value
    return read if isinstance(read, int | float) else value
