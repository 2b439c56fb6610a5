"""Formats that begin after something else, as an answer does after its reasoning; and what counts as a definition."""

import json
from dataclasses import replace

import pytest
from tokenizers import Tokenizer

from infermesh_engine.requests.request import OutputFormat
from infermesh_engine.sampling.grammars.grammar import GrammarFactory

from .formats import EOS, admits, refused, schema

THOUGHT = 'before: (thought /[ ]{0,4}/)?\nthought[suffix="</t>"]: "<t>" /(?s:.*)/\n'
OBJECT = schema({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]})
FORMATS = (
    (OBJECT, '{"a": 1}', '{"b": 1}'),
    (OutputFormat(kind="regex", spec="ab+c"), "abbc", "ac"),
    (OutputFormat(kind="grammar", spec='start: "yes" | "no"'), "no", "maybe"),
    (OutputFormat(kind="grammar", spec='root ::= "yes" | "no"'), "no", "maybe"),
)


@pytest.fixture(scope="module")
def factory(byte_tokenizer: Tokenizer) -> GrammarFactory:
    return GrammarFactory(byte_tokenizer, frozenset({EOS}))


@pytest.mark.parametrize(("form", "good", "bad"), FORMATS)
def test_every_format_may_begin_after_something(
    factory: GrammarFactory, byte_tokenizer: Tokenizer, form: OutputFormat, good: str, bad: str
) -> None:
    after = replace(form, before=THOUGHT)
    for thought in ("", "<t>so: {x} ab</t>", "<t></t> "):
        assert admits(factory, byte_tokenizer, after, thought + good)
        assert not admits(factory, byte_tokenizer, after, thought + bad)
    assert not admits(factory, byte_tokenizer, after, "<t>no end " + good)


def test_a_grammar_may_bound_its_digits(factory: GrammarFactory, byte_tokenizer: Tokenizer) -> None:
    form = OutputFormat(kind="grammar", spec='start: %json {"type": "integer"}')
    assert admits(factory, byte_tokenizer, form, "1" * 30)
    assert not admits(factory, byte_tokenizer, replace(form, bound_digits=True), "1" * 30)


def test_only_rules_and_references_count_as_definitions(factory: GrammarFactory, byte_tokenizer: Tokenizer) -> None:
    many = {"type": "object", "properties": {f"p{i}": {"type": "integer"} for i in range(700)}}
    assert json.dumps(many).count(":") > 1000
    two = "\n".join(f"r{i}: %json {json.dumps(many)}" for i in range(2))
    assert refused(factory, OutputFormat(kind="grammar", spec=f"start: r0 | r1\n{two}")) == ""
    chain = {f"r{i}": {"$ref": f"#/$defs/r{i + 1}"} for i in range(1001)} | {"r1001": {"type": "integer"}}
    spec = f"start: %json {json.dumps({'$ref': '#/$defs/r0', '$defs': chain})}"
    assert "more than 1000" in refused(factory, OutputFormat(kind="grammar", spec=spec))
    hidden = 'start: %json {"const": "\n' + "\n".join(f"r{i}: r{i + 1}" for i in range(1001))
    assert "more than 1000" in refused(factory, OutputFormat(kind="grammar", spec=hidden))
