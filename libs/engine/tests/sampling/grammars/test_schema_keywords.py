"""Keywords of JSON schemas: those that forbid nothing are passed over, and what cannot be done is refused by name."""

from typing import Any

import pytest
from tokenizers import Tokenizer

from infermesh_engine.sampling.grammars.grammar import GrammarFactory

from .formats import EOS, admits, refused, schema

INTEGER = {"type": "integer"}
IDLE: list[Any] = [
    {"type": "array", "items": INTEGER, "uniqueItems": False},
    {"type": "array", "items": INTEGER, "maxItems": 1, "uniqueItems": True},
    {"type": "array", "items": INTEGER, "unevaluatedItems": True, "minContains": 2, "maxContains": 3},
    {"type": "array", "items": INTEGER | {"not": False, "if": {"minimum": 1}}},
    {"type": "array", "items": INTEGER | {"then": {"minimum": 9}, "else": {"minimum": 9}}},
    {"type": "array", "items": {"type": ["integer", "object"], "propertyNames": {}, "unevaluatedProperties": {}}},
    {"type": "array", "items": {"type": ["integer", "object"], "dependentRequired": {}, "dependentSchemas": {}}},
    {"type": "array", "items": {"type": ["integer", "object"], "dependencies": {}}},
]
REFUSED: list[tuple[str, Any]] = [
    ("not", {"not": {"const": 1}}),
    ("if", {"if": {"minimum": 1}, "then": {"maximum": 9}}),
    ("uniqueItems", {"type": "array", "items": INTEGER, "uniqueItems": True}),
    ("uniqueItems", {"type": "array", "items": INTEGER, "uniqueItems": True, "maxItems": []}),
    ("contains", {"type": "array", "contains": INTEGER}),
    ("unevaluatedItems", {"type": "array", "prefixItems": [INTEGER], "unevaluatedItems": False}),
    ("unevaluatedProperties", {"type": "object", "unevaluatedProperties": False}),
    ("propertyNames", {"type": "object", "propertyNames": {"pattern": "^a"}}),
    ("dependentRequired", {"type": "object", "dependentRequired": {"a": ["b"]}}),
    ("dependentSchemas", {"type": "object", "dependentSchemas": {"a": {}}}),
    ("dependencies", {"type": "object", "dependencies": {"a": ["b"]}}),
    ("$dynamicRef", {"$dynamicRef": "#a"}),
    ("oneOf", {"oneOf": [{"type": "string", "minLength": 1}, {"type": "string", "maxLength": 5}]}),
    ("format: idn-email", {"type": "string", "format": "idn-email"}),
    ("pattern:", {"type": "string", "pattern": "^(?=a)b"}),
    ("pattern:", {"type": "string", "pattern": r"^(a)\1$"}),
    ("patternProperties:", {"type": "object", "patternProperties": {"(": {}}}),
    ("$ref:", {"$ref": "#/$defs/nowhere"}),
    ("$ref:", {"$ref": "https://example.com/schema"}),
    ("Anchor 'nowhere'", {"$ref": "#nowhere"}),
    ("$schema:", {"$schema": "https://example.com/schema", "type": "null"}),
    ("multipleOf:", {"type": "number", "multipleOf": 0}),
    ("maxProperties", {"properties": {"a": INTEGER}, "additionalProperties": INTEGER, "maxProperties": 3}),
    ("minProperties:", {"type": "object", "additionalProperties": INTEGER, "minProperties": 2}),
    ("minProperties:", {"type": "object", "patternProperties": {"^a": INTEGER}, "minProperties": 2}),
    ("type", {"type": "any"}),
]


@pytest.fixture(scope="module")
def factory(byte_tokenizer: Tokenizer) -> GrammarFactory:
    return GrammarFactory(byte_tokenizer, frozenset({EOS}))


def in_a_member(value: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": value}, "required": ["a"]}


@pytest.mark.parametrize("value", IDLE, ids=range(len(IDLE)))
def test_keywords_without_effect(factory: GrammarFactory, byte_tokenizer: Tokenizer, value: Any) -> None:
    assert not refused(factory, schema(value))
    for text, fits in (("[7]", True), ("[-7]", True), ("[true]", False)):
        assert admits(factory, byte_tokenizer, schema(value), text) == fits
        assert admits(factory, byte_tokenizer, schema(in_a_member(value)), f'{{"a":{text}}}') == fits


@pytest.mark.parametrize(("name", "value"), REFUSED, ids=range(len(REFUSED)))
def test_what_cannot_be_done_is_refused_by_name(factory: GrammarFactory, name: str, value: Any) -> None:
    for whole in (value, in_a_member(value)) if "$schema" not in value else (value,):
        assert name in refused(factory, schema(whole))


def test_members_that_can_be_counted(factory: GrammarFactory, byte_tokenizer: Tokenizer) -> None:
    others = {"type": "object", "additionalProperties": INTEGER, "minProperties": 1}
    listed = {"properties": {"a": INTEGER}, "required": ["a"], "additionalProperties": INTEGER, "minProperties": 2}
    for value, short, long in ((others, "{}", '{"b": 1}'), (listed, '{"a": 1}', '{"a": 1, "b": 1}')):
        assert not admits(factory, byte_tokenizer, schema(value), short)
        assert admits(factory, byte_tokenizer, schema(value), long)


def test_an_empty_enum_is_not_called_anyof(factory: GrammarFactory) -> None:
    assert "enum is empty" in refused(factory, schema({"enum": []}))
    assert "anyOf is empty" in refused(factory, schema({"anyOf": []}))


@pytest.mark.parametrize("place", ["a/b", "ä~ %", ""])
def test_anchors_are_followed(factory: GrammarFactory, byte_tokenizer: Tokenizer, place: str) -> None:
    value = {"type": "array", "items": {"$ref": "#here"}, "$defs": {place: INTEGER | {"$anchor": "here"}}}
    assert admits(factory, byte_tokenizer, schema(value), "[7]")
    assert not admits(factory, byte_tokenizer, schema(value), "[null]")


def test_a_value_that_needs_itself_through_an_anchor_is_refused(factory: GrammarFactory) -> None:
    value = {"$anchor": "x", "type": "object", "properties": {"n": {"$ref": "#x"}}, "required": ["n"]}
    assert "would have to contain a further one" in refused(factory, schema(value))
