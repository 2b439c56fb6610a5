"""Draws JSON schemas from a seed: every keyword that output formats accept, in the ways that people combine them.

Each has an outermost object with one member for the keyword whose turn it is, and others by chance. Their texts and
lists are bounded, but for those of which `keywords.may_go_on` says that they are not.
"""

from collections.abc import Callable
from random import Random
from typing import Any

Schema = dict[str, Any]

NAMES = ("name", "id", "größe", "ключ", "数量", "😀", 'a "b"\\c', "x_1", "is ok", "")
PATTERNS = (
    "^[a-z]{2,8}$",
    "^[A-Z]{3}-[0-9]{1,4}$",
    "^(red|green|blue)$",
    "^[^a-z]{1,6}$",
    r"^\d{2}\.\d{2}$",
    "^[à-ü]{2,5}$",
)
FORMATS = ("date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uuid", "uri")
VALUES: tuple[Any, ...] = ("red", "grün", 'say "hi"', 7, -2.5, True, None, [1, "a"], {"k": []}, "")


def _word(chance: Random) -> Schema:
    return {"type": "string", "minLength": chance.randint(0, 2), "maxLength": chance.randint(2, 20)}


def _whole(chance: Random) -> Schema:
    low = chance.randint(-50, 50)
    return {"type": "integer", "minimum": low, "maximum": low + chance.randint(0, 500)}


def _leaf(chance: Random) -> Schema:
    kinds: list[Callable[[Random], Schema]] = [_word, _whole, lambda _: {"type": "boolean"}, _pattern, _enum]
    return chance.choice(kinds)(chance)


def _pattern(chance: Random) -> Schema:
    return {"type": "string", "pattern": chance.choice(PATTERNS)}


def _pattern_within(chance: Random) -> Schema:
    """Patterns match anywhere in a text."""
    return {"type": "string", "pattern": chance.choice(["ab+", "[0-9]$", "^x"]), "maxLength": chance.randint(4, 12)}


def _pattern_and_length(chance: Random) -> Schema:
    return {"type": "string", "pattern": "^[a-z]+$", "minLength": 3, "maxLength": chance.randint(3, 9)}


def _format(chance: Random) -> Schema:
    chosen = chance.choice(FORMATS)
    return {"type": "string", "format": chosen, "maxLength": 40}


def _enum(chance: Random) -> Schema:
    return {"enum": chance.sample(VALUES, chance.randint(1, 5))}


def _const(chance: Random) -> Schema:
    return {"const": chance.choice(VALUES)}


def _open_bounds(chance: Random) -> Schema:
    low = chance.randint(-9, 9)
    kind = chance.choice(["integer", "number"])
    return {"type": kind, "exclusiveMinimum": low, "exclusiveMaximum": low + chance.randint(2, 90)}


def _fraction(chance: Random) -> Schema:
    low = round(chance.uniform(-5, 5), 2)
    return {"type": "number", "minimum": low, "maximum": low + chance.choice([0.5, 1, 40])}


def _multiple(chance: Random) -> Schema:
    step = chance.choice([2, 5, 7, 0.25, 0.01])
    kind = "integer" if isinstance(step, int) else "number"
    return {"type": kind, "multipleOf": step, "minimum": 0, "maximum": chance.randint(20, 200)}


def _types(chance: Random) -> Schema:
    return {"type": chance.sample(["null", "boolean", "integer"], 2), "minimum": 1, "maximum": 9}


def _nullable(chance: Random) -> Schema:
    """As OpenAPI 3.0 says it, which JSON Schema does not know, and as pydantic does."""
    return chance.choice([{**_word(chance), "nullable": True}, {"anyOf": [_word(chance), {"type": "null"}]}])


def _array(chance: Random) -> Schema:
    least = chance.randint(0, 2)
    return {"type": "array", "items": _leaf(chance), "minItems": least, "maxItems": least + chance.randint(0, 3)}


def _nested_array(chance: Random) -> Schema:
    return {"type": "array", "items": _array(chance), "minItems": 1, "maxItems": 2}


def _tuple(chance: Random) -> Schema:
    first = [_leaf(chance) for _ in range(chance.randint(1, 3))]
    rest: Any = chance.choice([False, _whole(chance)])
    return {"type": "array", "prefixItems": first, "items": rest, "minItems": len(first), "maxItems": 4}


def _said_of_repeats(chance: Random) -> Schema:
    """Lists whose elements may repeat, or that have one at most: what else `uniqueItems` says is refused."""
    alone = {**_array(chance), "uniqueItems": True, "minItems": 0, "maxItems": 1}
    return chance.choice([{**_array(chance), "uniqueItems": False}, alone])


def _object(chance: Random, **more: Any) -> Schema:
    names = chance.sample(NAMES, chance.randint(1, 4))
    members = {name: _leaf(chance) for name in names}
    return {"type": "object", "properties": members, "required": names[: chance.randint(0, len(names))], **more}


def _closed(chance: Random) -> Schema:
    return _object(chance, additionalProperties=False)


def _other_members(chance: Random) -> Schema:
    made = _object(chance, additionalProperties=_whole(chance), maxProperties=5)
    return {**made, "required": list(made["properties"])}  # else the number of members is refused


def _counted_members(chance: Random) -> Schema:
    least = chance.randint(0, 1)
    return {"type": "object", "additionalProperties": _leaf(chance), "minProperties": least, "maxProperties": least + 1}


def _members_by_pattern(chance: Random) -> Schema:
    pattern = chance.choice(["^x_[a-z]{1,5}$", "^[0-9]{2}$"])
    return {
        "type": "object",
        "patternProperties": {pattern: _leaf(chance)},
        "additionalProperties": False,
        "maxProperties": 3,
    }


def _any_of(chance: Random) -> Schema:
    return {"anyOf": [_leaf(chance) for _ in range(chance.randint(2, 4))]}


def _one_of(chance: Random) -> Schema:
    kinds = ("circle", "box", "line")[: chance.randint(2, 3)]
    members = [{"kind": {"const": kind}, "value": _leaf(chance)} for kind in kinds]
    by_member = [{"type": "object", "properties": each, "required": ["kind", "value"]} for each in members]
    by_type = [_word(chance), _whole(chance), {"type": "null"}]
    return {"oneOf": chance.choice([by_member, by_type])}


def _all_of(chance: Random) -> Schema:
    named = {"type": "object", "properties": {"name": _word(chance)}, "required": ["name"]}
    counted = {"type": "object", "properties": {"count": _whole(chance)}, "required": ["count"], "maxProperties": 3}
    numbers = [{"type": "integer"}, {"minimum": chance.randint(-5, 5)}, {"maximum": chance.randint(6, 90)}]
    return {"allOf": chance.choice([[named, counted], numbers])}


def _reference(_chance: Random) -> Schema:
    return {"$ref": "#/$defs/shared"}


def _list_that_refers_to_itself(_chance: Random) -> Schema:
    return {"$ref": "#/$defs/link"}


def _tree(_chance: Random) -> Schema:
    return {"$ref": "#/$defs/tree"}


def _annotated(chance: Random) -> Schema:
    told = {"title": "A title", "description": "Says what it is.", "default": "x", "examples": ["y"], "$comment": "c"}
    return {**_word(chance), **told, "readOnly": True, "writeOnly": False, "deprecated": True, "x-order": 3}


def _encoded(chance: Random) -> Schema:
    return {**_pattern(chance), "contentEncoding": "base64", "contentMediaType": "image/png"}


def _any_value(chance: Random) -> Schema:
    return {"type": "array", "items": chance.choice([True, {}]), "maxItems": 1}


KINDS: tuple[Callable[[Random], Schema], ...] = (
    _word,
    _whole,
    _pattern,
    _pattern_within,
    _pattern_and_length,
    _format,
    _enum,
    _const,
    _open_bounds,
    _fraction,
    _multiple,
    _types,
    _nullable,
    _array,
    _nested_array,
    _tuple,
    _said_of_repeats,
    _closed,
    _other_members,
    _counted_members,
    _members_by_pattern,
    _any_of,
    _one_of,
    _all_of,
    _reference,
    _list_that_refers_to_itself,
    _tree,
    _annotated,
    _encoded,
    _any_value,
)


def drawn(number: int) -> Schema:
    """The schema of this number; the same one each time."""
    chance = Random(number)
    if number % 10 == 9:
        return _old(chance)
    names = ("wanted", *chance.sample(NAMES, chance.randint(0, 2)))
    kinds = [KINDS[number % len(KINDS)], *(chance.choice(KINDS) for _ in names[1:])]
    link = {"anyOf": [{"$ref": "#link"}, {"type": "null"}]}
    branches = {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {name: kind(chance) for name, kind in zip(names, kinds, strict=True)},
        "required": ["wanted"],
        "additionalProperties": False,
        "$defs": {
            "shared": _object(chance),
            "link": {
                "$anchor": "link",
                "type": "object",
                "properties": {"value": _whole(chance), "next": link},
                "required": ["value", "next"],
            },
            "tree": {"type": "object", "properties": {"branches": branches, "leaf": _leaf(chance)}},
        },
    }


def _old(chance: Random) -> Schema:
    """In the words of the drafts before 2019-09."""
    first = {"type": "array", "items": [_whole(chance), _leaf(chance)], "additionalItems": False, "minItems": 2}
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {"wanted": first, "old": {"$ref": "#/definitions/old"}},
        "required": ["wanted", "old"],
        "definitions": {"old": chance.choice(KINDS[:12])(chance)},
    }
