"""Draws tools with JSON schemas of every kind that people give them, for tests of forced calls."""

import random
from collections.abc import Callable, Mapping
from typing import Any

_NAMES = ("city", "days", "unit", "küche", "item id", "$ref", "description", 'say "hi"', "tags", "a.b")
_WORDS = ("metric", "imperial", "Köln", 'with "quotes"', "with\nlines", "", "1", "{}")

_Draw = Callable[[random.Random, int], Any]


def draw_tools(seed: int) -> Mapping[str, dict[str, Any]]:
    """One to three tools: the schema of each one's arguments, by its name. Every string and array is bounded."""
    rng = random.Random(seed)  # noqa: S311 - for tests, which want the same ones again
    return {f"tool_{seed}_{index}": _tool(rng) for index in range(rng.randint(1, 3))}


def _tool(rng: random.Random) -> dict[str, Any]:
    if rng.random() < 0.05:
        return {}
    schema = _object(rng, 0)
    if rng.random() < 0.3:
        schema["$defs"] = {"part": _value(rng, 1)}
        schema["properties"]["referred"] = {"$ref": "#/$defs/part"}
        schema["required"].append("referred")
    if rng.random() < 0.3:
        schema |= {"description": "Says nothing about validity.", "title": "Arguments"}
    return schema


def _object(rng: random.Random, depth: int) -> dict[str, Any]:
    names = rng.sample(_NAMES, rng.randint(0, 4 - depth))
    properties = {name: _value(rng, depth + 1) for name in names}
    required = [name for name in names if rng.random() < 0.7]
    schema: dict[str, Any] = {"type": "object", "properties": properties, "required": required}
    if rng.random() < 0.5:
        schema["additionalProperties"] = False
    return schema


def _value(rng: random.Random, depth: int) -> dict[str, Any]:
    kinds = _NESTED + _FLAT if depth < 3 else _FLAT
    schema: dict[str, Any] = rng.choice(kinds)(rng, depth)
    if rng.random() < 0.2:
        schema["description"] = "A note."
    return schema


def _string(rng: random.Random, _depth: int) -> dict[str, Any]:
    bounds: tuple[dict[str, Any], ...] = (
        {"maxLength": 6},
        {"minLength": 1, "maxLength": 4},
        {"pattern": "^[a-z]{2,5}$"},
        {"format": "date"},
    )
    return {"type": "string", **rng.choice(bounds)}


def _integer(rng: random.Random, _depth: int) -> dict[str, Any]:
    low = rng.randint(-50, 50)
    return {"type": "integer", "minimum": low, "maximum": low + rng.randint(0, 100)}


def _number(rng: random.Random, _depth: int) -> dict[str, Any]:
    return {"type": "number", "minimum": 0, rng.choice(("maximum", "exclusiveMaximum")): rng.randint(1, 9)}


def _choice(rng: random.Random, _depth: int) -> dict[str, Any]:
    words = [*rng.sample(_WORDS, rng.randint(1, 3)), *rng.sample([None, 3, True], rng.randint(0, 1))]
    return {"const": words[0]} if rng.random() < 0.2 else {"enum": words}


def _array(rng: random.Random, depth: int) -> dict[str, Any]:
    least = rng.randint(0, 2)
    return {"type": "array", "items": _value(rng, depth + 1), "minItems": least, "maxItems": least + 1}


def _either(rng: random.Random, depth: int) -> dict[str, Any]:
    return {"anyOf": [_value(rng, depth + 1), {"type": rng.choice(("null", "boolean"))}]}


_FLAT: tuple[_Draw, ...] = (_string, _integer, _number, _choice, lambda _rng, _depth: {"type": "boolean"})
_NESTED: tuple[_Draw, ...] = (_object, _array, _either)
