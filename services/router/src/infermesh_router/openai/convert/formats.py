"""Converts the formats that a body may demand of the output to an OutputFormat."""

import json
import re
from collections.abc import Iterator

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.errors import invalid
from infermesh_router.openai.schema.formats import JsonObjectFormat, JsonSchemaFormat, StructuredOutputs
from infermesh_router.openai.schema.shared import SamplingRequest

_REGEX_SPECIAL = re.compile(r"([\\.+*?()|\[\]{}^$#&\-~])")
_KINDS = ("json", "regex", "grammar", "choice", "json_object")


def output_format(request: SamplingRequest) -> tuple[str, pb.OutputFormat] | None:
    """The format that a body demands, and the field that demands it. Raises InvalidArgument if there are several."""
    given = list(_given(request))
    if not given:
        return None
    if len(given) > 1:
        (first, _), (second, _) = given[-2:]
        raise invalid(second, f"and a '{first}' must not both be set")
    return given[0]


def dump(value: object, path: str) -> str:
    """A value as JSON text. Raises InvalidArgument for a number beyond a double."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    except ValueError:  # 1e999 is valid JSON, but is read as infinity
        raise invalid(path, "contains a number that is too large") from None


def _given(request: SamplingRequest) -> Iterator[tuple[str, pb.OutputFormat]]:
    wanted = request.response_format
    if isinstance(wanted, JsonObjectFormat):
        yield "response_format", pb.OutputFormat(json_schema=dump(wanted.schema_ or {}, "response_format.schema"))
    elif isinstance(wanted, JsonSchemaFormat):
        schema, strict = wanted.json_schema.schema_ or {}, wanted.json_schema.strict
        text = dump(schema, "response_format.json_schema.schema")
        made = pb.OutputFormat(json_schema=text, open_objects=None if strict is None else not strict)
        yield "response_format", made
    if request.guided_json is not None:
        yield "guided_json", pb.OutputFormat(json_schema=_schema(request.guided_json, "guided_json"))
    if request.guided_regex is not None:
        yield "guided_regex", pb.OutputFormat(regex=request.guided_regex)
    if request.guided_choice is not None:
        yield "guided_choice", _one_of(request.guided_choice)
    if request.guided_grammar is not None:
        yield "guided_grammar", pb.OutputFormat(grammar=request.guided_grammar)
    if request.json_schema is not None:
        yield "json_schema", pb.OutputFormat(json_schema=dump(request.json_schema, "json_schema"))
    if request.grammar:
        yield "grammar", pb.OutputFormat(grammar=request.grammar)
    if request.structured_outputs is not None:
        yield "structured_outputs", _structured(request.structured_outputs)


def _structured(outputs: StructuredOutputs) -> pb.OutputFormat:
    given = outputs.model_dump(exclude_none=True, by_alias=True, include={"json_", *_KINDS})
    if len(given) != 1:
        raise invalid("structured_outputs", f"needs exactly one of {', '.join(_KINDS)}")
    if outputs.regex is not None:
        return pb.OutputFormat(regex=outputs.regex)
    if outputs.grammar is not None:
        return pb.OutputFormat(grammar=outputs.grammar)
    if outputs.choice is not None:
        return _one_of(outputs.choice)
    schema = outputs.json_ if outputs.json_ is not None else "{}"
    closed = outputs.disable_additional_properties
    text = _schema(schema, "structured_outputs.json")
    return pb.OutputFormat(json_schema=text, open_objects=None if closed is None else not closed)


def _schema(schema: object, path: str) -> str:
    return schema if isinstance(schema, str) else dump(schema, path)


def _one_of(choices: list[str]) -> pb.OutputFormat:
    return pb.OutputFormat(regex="|".join(_REGEX_SPECIAL.sub(r"\\\1", choice) for choice in choices))
