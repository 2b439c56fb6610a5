"""`oneOf` is allowed where no value matches two of its branches, and refused where one may."""

from typing import Any

import pytest
from tokenizers import Tokenizer

from infermesh_engine.sampling.grammars.grammar import GrammarFactory

from .formats import EOS, admits, refused, schema


@pytest.fixture(scope="module")
def factory(byte_tokenizer: Tokenizer) -> GrammarFactory:
    return GrammarFactory(byte_tokenizer, frozenset({EOS}))


def kind(name: str, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"kind": {"const": name}, **more}, "required": ["kind"]}


CAT, DOG, INTEGER = kind("cat"), kind("dog", age={"type": "integer"}), {"type": "integer"}
DEFS = {"Cat": CAT, "Dog": DOG, "Pet": {"oneOf": [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}]}}
X = {"type": "object", "properties": {"x": INTEGER}, "required": ["x"]}
Y = {"type": "object", "properties": {"y": INTEGER}, "required": ["y"]}


@pytest.mark.parametrize(
    ("branches", "text"),
    [
        ([{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Dog"}], '{"kind": "dog", "age": 3}'),
        ([{"$ref": "#/$defs/Cat"}, {"type": "null"}], "null"),
        ([{"$ref": "#/$defs/Pet"}, {"type": "array", "items": {"$ref": "#/$defs/Pet"}}], '[{"kind": "cat"}]'),
        ([{"allOf": [{"$ref": "#/$defs/Cat"}]}, {"allOf": [{"$ref": "#/$defs/Dog"}]}], '{"kind": "cat"}'),
        ([INTEGER | {"maximum": 3}, INTEGER | {"minimum": 4}], "4"),
        ([INTEGER | {"exclusiveMaximum": 3}, INTEGER | {"minimum": 3}], "3"),
        ([{"enum": [1, 2]}, {"enum": [3, "1"]}], '"1"'),
        ([{"anyOf": [{"const": 1}, {"const": "a"}]}, {"type": "null"}], "1"),
        ([X, Y], '{"y": 2}'),
        ([False, {"type": "null"}], "null"),
    ],
)
def test_disjoint(factory: GrammarFactory, byte_tokenizer: Tokenizer, branches: list[Any], text: str) -> None:
    assert admits(factory, byte_tokenizer, schema({"oneOf": branches, "$defs": DEFS}), text)


def test_beside_any_of(factory: GrammarFactory, byte_tokenizer: Tokenizer) -> None:
    both = {"anyOf": [{"type": ["integer", "null"]}], "oneOf": [INTEGER | {"maximum": 3}, INTEGER | {"minimum": 5}]}
    assert admits(factory, byte_tokenizer, schema(both), "5")
    assert not admits(factory, byte_tokenizer, schema(both), "4")


@pytest.mark.parametrize(
    "branches",
    [
        [INTEGER, {"type": "number"}],
        [{"const": 1}, {"enum": [1.0, 2]}],
        [INTEGER | {"maximum": 3}, INTEGER | {"minimum": 3}],
        [{"$ref": "#/$defs/Cat"}, {"$ref": "#/$defs/Cat"}],
        [{"type": "object", "properties": {"a": INTEGER}}, {"type": "object", "properties": {"b": INTEGER}}],
        [{"type": "string", "pattern": "a"}, {"type": "string", "pattern": "b"}],
        [{}, {"type": "null"}],
        [{"$ref": "#"}, {"type": "null"}],
    ],
)
def test_what_may_overlap_is_refused(factory: GrammarFactory, branches: list[Any]) -> None:
    assert "use anyOf" in refused(factory, schema({"oneOf": branches, "$defs": DEFS}))


def test_many_branches_take_little_time(factory: GrammarFactory, byte_tokenizer: Tokenizer) -> None:
    definitions = {f"K{i}": kind(f"k{i}") for i in range(150)}
    many = {"oneOf": [{"$ref": f"#/$defs/{name}"} for name in definitions], "$defs": definitions}
    assert admits(factory, byte_tokenizer, schema(many), '{"kind": "k149"}')
