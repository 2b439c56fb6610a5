"""Walks JSON schemas: the schemas inside a schema, those that hold for the same value, and what a `$ref` points to."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

Schema = dict[str, Any]

_MAPS = ("properties", "patternProperties", "$defs", "definitions")
_LISTS = ("prefixItems", "allOf", "anyOf", "oneOf")
_ONES = ("items", "additionalItems", "additionalProperties")


def schemas_in(root: Schema) -> Iterator[Schema]:
    """The schema and all that it contains or refers to, once each, except `true` and `false`.

    Data, as in `const`, is not looked at.
    """
    seen: set[int] = set()
    pending: list[Any] = [root]
    while pending:
        schema = pending.pop()
        if not isinstance(schema, dict) or id(schema) in seen:
            continue
        seen.add(id(schema))
        yield schema
        for key in _MAPS:
            pending += map_of(schema, key).values()
        for key in (*_LISTS, *_ONES):
            inner = schema.get(key)
            pending += inner if isinstance(inner, list) else [inner]
        pending.append(resolve(root, schema))


def in_place(root: Schema, schema: Schema) -> list[Any]:
    """The schemas that hold for the same value as this one: its branches, and what its `$ref` points to."""
    branches = [branch for key in ("allOf", "anyOf", "oneOf") for branch in list_of(schema, key)]
    if (target := resolve(root, schema)) is not None:
        branches.append(target)
    return branches


def list_of(schema: Schema, key: str) -> list[Any]:
    """The schemas of a keyword that holds a list; none if it is missing or malformed."""
    value = schema.get(key)
    return value if isinstance(value, list) else []


def map_of(schema: Schema, key: str) -> Schema:
    """The value of a keyword that holds an object; empty if it is missing or malformed."""
    value = schema.get(key)
    return value if isinstance(value, dict) else {}


def resolve(root: Schema, schema: Schema) -> Any:
    """What the schema's `$ref` points to; None without one, for an anchor, and for what is outside or nowhere."""
    reference = schema.get("$ref")
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        return None
    found: Any = root
    for step in reference[1:].split("/")[1:]:
        name = unquote(step).replace("~1", "/").replace("~0", "~")
        if isinstance(found, list) and name.isdigit() and int(name) < len(found):
            found = found[int(name)]
        elif isinstance(found, dict) and name in found:
            found = found[name]
        else:
            return None
    return found
