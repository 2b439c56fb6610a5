"""What drawn schemas use and allow: their keywords, and whether their values end."""

from collections.abc import Iterator
from typing import Any

from tests.json_schemas.drawn import Schema


def may_go_on(schema: Schema) -> bool:
    """Whether a value may be of any size: it refers to itself, or has members or elements that may be anything."""
    pending: list[Any] = [schema["properties"], schema.get("definitions")]
    while pending:
        node = pending.pop()
        if isinstance(node, dict):
            if (
                node.get("$ref") in {"#/$defs/link", "#/$defs/tree"}
                or node.get("items") in (True, {})
                or "allOf" in node
            ):
                return True
            pending += node.values()
        elif isinstance(node, list):
            pending += node
    return False


def keywords_of(schema: Any) -> Iterator[str]:
    """Every keyword that a schema uses, members' names and values left out."""
    if isinstance(schema, list):
        for each in schema:
            yield from keywords_of(each)
    if not isinstance(schema, dict):
        return
    for keyword, value in schema.items():
        yield keyword
        if keyword in {"properties", "patternProperties", "$defs", "definitions"}:
            yield from keywords_of(list(value.values()))
        elif keyword not in {"enum", "const", "default", "examples"}:
            yield from keywords_of(value)


ACCEPTED = frozenset(
    {
        *("type", "enum", "const", "nullable", "$ref", "$defs", "definitions", "$schema", "$anchor"),
        *("anyOf", "oneOf", "allOf"),
        *("minLength", "maxLength", "pattern", "format", "contentEncoding", "contentMediaType"),
        *("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"),
        *("items", "prefixItems", "additionalItems", "minItems", "maxItems", "uniqueItems"),
        *("properties", "required", "additionalProperties", "patternProperties", "minProperties", "maxProperties"),
        *("title", "description", "default", "examples", "$comment", "deprecated", "readOnly", "writeOnly"),
    }
)
"""What the first 200 schemas use between them, beside keywords that JSON Schema does not know."""
