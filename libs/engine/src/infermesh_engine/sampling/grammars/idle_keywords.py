"""Removes keywords of a JSON schema that forbid nothing as they stand: llguidance refuses them whatever they say."""

from collections.abc import Callable
from typing import Any

from infermesh_engine.sampling.grammars.schema_tree import Schema, schemas_in


def drop_idle_keywords(root: Schema) -> None:
    """Removes them in place, such as `"uniqueItems": false` or `if` without `then` and `else`."""
    for schema in list(schemas_in(root)):
        for keyword in [name for name, is_idle in _IDLE.items() if name in schema and is_idle(schema)]:
            del schema[keyword]


def _allows_all(keyword: str) -> Callable[[Schema], bool]:
    return lambda schema: schema[keyword] is True or schema[keyword] == {}


def _is_empty(keyword: str) -> Callable[[Schema], bool]:
    return lambda schema: schema[keyword] == {}


def _needs(*others: str) -> Callable[[Schema], bool]:
    return lambda schema: not any(other in schema for other in others)


def _cannot_repeat(schema: Schema) -> bool:
    most: Any = schema.get("maxItems")  # anything that JSON can hold: a set could not be asked for a list
    return schema["uniqueItems"] is False or (schema["uniqueItems"] is True and most in (0, 1))


_IDLE: dict[str, Callable[[Schema], bool]] = {
    "uniqueItems": _cannot_repeat,
    "unevaluatedProperties": _allows_all("unevaluatedProperties"),
    "unevaluatedItems": _allows_all("unevaluatedItems"),
    "propertyNames": _allows_all("propertyNames"),
    "dependentRequired": _is_empty("dependentRequired"),
    "dependentSchemas": _is_empty("dependentSchemas"),
    "dependencies": _is_empty("dependencies"),
    "minContains": _needs("contains"),
    "maxContains": _needs("contains"),
    "then": _needs("if"),
    "else": _needs("if"),
    "if": _needs("then", "else"),
    "not": lambda schema: schema["not"] is False,
}
"""Whether a keyword that a schema has is without effect there."""
