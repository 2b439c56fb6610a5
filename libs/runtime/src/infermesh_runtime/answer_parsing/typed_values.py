"""Types the plain text of an argument by the tool's JSON schema, for formats that write values without quotes."""

import ast
import json
from collections.abc import Iterator, Mapping
from typing import Any

from infermesh_runtime.answer_parsing.json_values import is_json
from infermesh_runtime.answer_parsing.parts import Tools

_MAX_LITERAL = 100_000
"""Longest text that is tried as a Python literal, in characters: Python's parser takes long for more."""
_NAMES = {
    bool: "boolean",
    int: "integer",
    float: "number",
    str: "string",
    list: "array",
    dict: "object",
    type(None): "null",
}
_WORDS = {"True": "true", "False": "false", "None": "null"}


def schema_of(tools: Tools, name: str, key: str) -> Mapping[str, Any] | None:
    """The schema of one argument of a tool; None when the tool says nothing about it."""
    properties = tools.get(name, {}).get("properties")
    found = properties.get(key) if isinstance(properties, Mapping) else None
    return found if isinstance(found, Mapping) else None


def typed_value(text: str, schema: Mapping[str, Any] | None) -> str:
    """The JSON text of a value: what the schema allows, and a string if nothing else fits.

    Without a schema it is a string. A text that could be a string or something else is something else.
    """
    types = set(_types(schema)) if schema is not None else {"string"}
    value = _as_json(text.strip())
    if value is None or not (types - {"string"} or not types):
        return json.dumps(text, ensure_ascii=False)
    name = _NAMES[type(json.loads(value))]
    fits = not types or name in types or (name == "integer" and "number" in types)
    if fits or (name == "null" and "string" not in types) or (name == "number" and "integer" in types):
        return value
    return json.dumps(text, ensure_ascii=False)


def object_text(members: Mapping[str, str]) -> str:
    """The JSON text of an object, from its members' JSON texts."""
    return "{" + ", ".join(f"{json.dumps(key, ensure_ascii=False)}: {value}" for key, value in members.items()) + "}"


def _types(schema: Mapping[str, Any]) -> Iterator[str]:
    """The types that a schema allows; none when it says nothing of them."""
    declared = schema.get("type")
    if isinstance(declared, str):
        yield declared
    elif isinstance(declared, list):
        yield from (name for name in declared if isinstance(name, str))
    for key in ("anyOf", "oneOf", "allOf"):
        for option in _list(schema, key):
            if isinstance(option, Mapping):
                yield from _types(option)
    values = [*_list(schema, "enum"), *((schema["const"],) if "const" in schema else ())]
    if not declared:
        yield from (_NAMES[type(value)] for value in values)


def _list(schema: Mapping[str, Any], key: str) -> list[Any]:
    """A keyword's list. Nobody has checked the schema, in which many libraries write null for what is missing."""
    value = schema.get(key)
    return value if isinstance(value, list) else []


def _as_json(text: str) -> str | None:
    """The text if it is JSON, or the JSON of the Python literal that it is."""
    if is_json(text):
        return text
    if text in _WORDS:
        return _WORDS[text]
    if text[:1] in "[{(" and len(text) <= _MAX_LITERAL:
        try:
            return json.dumps(ast.literal_eval(text), ensure_ascii=False, allow_nan=False)
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
    return None
