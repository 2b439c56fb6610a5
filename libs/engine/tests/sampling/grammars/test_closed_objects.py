"""Objects of a JSON schema have no members that it does not list, unless it speaks of others."""

from typing import Any

import pytest
from tokenizers import Tokenizer

from infermesh_engine.sampling.grammars.grammar import GrammarFactory

from .formats import EOS, admits, refused, schema

A = {"type": "object", "properties": {"a": {"type": "integer"}}}
B = {"type": "object", "properties": {"b": {"type": "integer"}}}
ALONE, MORE = '{"a": 1}', '{"a": 1, "x": 2}'


@pytest.fixture(scope="module")
def factory(byte_tokenizer: Tokenizer) -> GrammarFactory:
    return GrammarFactory(byte_tokenizer, frozenset({EOS}))


@pytest.mark.parametrize(
    "closed",
    [
        A,
        {"properties": {"a": {}}, "type": ["object", "null"]},
        {"$ref": "#/$defs/A", "$defs": {"A": A}},
        {"allOf": [{"$ref": "#/$defs/A"}], "$defs": {"A": A}},
        {"anyOf": [A, {"type": "null"}]},
        {"$ref": "#/x-shared/A", "x-shared": {"A": A}},
        {"$ref": "#/$defs/my%20A", "$defs": {"my A": A}},
        A | {"anyOf": [{"required": ["a"]}]},
        A | {"minProperties": 1, "required": ["a"]},
    ],
)
def test_members_that_are_not_listed(factory: GrammarFactory, byte_tokenizer: Tokenizer, closed: Any) -> None:
    assert admits(factory, byte_tokenizer, schema(closed), ALONE)
    assert not admits(factory, byte_tokenizer, schema(closed), MORE)
    assert admits(factory, byte_tokenizer, schema(closed, open_objects=True), MORE)


def test_objects_inside(factory: GrammarFactory, byte_tokenizer: Tokenizer) -> None:
    for inside, before, after in (
        ({"type": "array", "items": A}, "[", "]"),
        ({"type": "array", "prefixItems": [A]}, "[", "]"),
        ({"type": "object", "properties": {"o": A}}, '{"o": ', "}"),
        ({"type": "object", "additionalProperties": A}, '{"o": ', "}"),
        ({"type": "object", "patternProperties": {"^o": A}}, '{"o": ', "}"),
    ):
        assert admits(factory, byte_tokenizer, schema(inside), before + ALONE + after), inside
        assert not admits(factory, byte_tokenizer, schema(inside), before + MORE + after), inside


@pytest.mark.parametrize(
    ("left_open", "text"),
    [
        ({}, MORE),
        ({"type": "object"}, MORE),
        (A | {"additionalProperties": True}, MORE),
        (A | {"additionalProperties": {"type": "integer"}}, MORE),
        (A | {"required": ["a", "x"]}, MORE),
        (A | {"required": ["a"], "minProperties": 2}, MORE),
        ({"allOf": [A, B]}, '{"a": 1, "b": 2}'),
        ({"allOf": [{"$ref": "#/$defs/A"}, B], "$defs": {"A": A}}, '{"a": 1, "b": 2}'),
        (A | {"$ref": "#/$defs/B", "$defs": {"B": B}}, '{"a": 1, "b": 2}'),
        (A | {"anyOf": [B]}, '{"a": 1, "b": 2}'),
        ({"const": {"properties": {"a": 1}}}, '{"properties": {"a": 1}}'),
        ({"type": "object", "properties": {"properties": {"type": "object"}}}, '{"properties": {"a": 1}}'),
    ],
)
def test_what_stays_open(factory: GrammarFactory, byte_tokenizer: Tokenizer, left_open: Any, text: str) -> None:
    compact = text.replace(" ", "") if "const" in left_open else text
    assert admits(factory, byte_tokenizer, schema(left_open), compact)


def test_a_schema_without_members_allows_none(factory: GrammarFactory, byte_tokenizer: Tokenizer) -> None:
    empty = schema({"type": "object", "properties": {}})
    assert admits(factory, byte_tokenizer, empty, "{}")
    assert not admits(factory, byte_tokenizer, empty, ALONE)


ODD = [{"type": 1}, {"properties": 1}, {"required": [{}]}, {"$ref": 1}, {"allOf": 1}, {"enum": 1}]


@pytest.mark.parametrize("odd", ODD)
def test_malformed_schemas_are_refused(factory: GrammarFactory, odd: dict[str, Any]) -> None:
    assert refused(factory, schema({"type": "object", "properties": {"a": odd}} | odd))
