"""Translates output formats into llguidance's grammars, and refuses those that must not reach llguidance."""

# ruff: noqa: PLC0415 - llguidance is imported only to compile a format: unconstrained requests run without it

import json
from typing import TYPE_CHECKING

from infermesh_engine.requests.request import OutputFormat
from infermesh_engine.sampling.grammars.anchors import point_at_anchors
from infermesh_engine.sampling.grammars.closed_objects import close_objects
from infermesh_engine.sampling.grammars.disjoint_branches import allow_disjoint_branches
from infermesh_engine.sampling.grammars.endless import is_endless
from infermesh_engine.sampling.grammars.gbnf import gbnf_to_lark, is_gbnf
from infermesh_engine.sampling.grammars.idle_keywords import drop_idle_keywords
from infermesh_engine.sampling.grammars.keyword_names import name_keyword
from infermesh_engine.sampling.grammars.member_counts import uncountable
from infermesh_runtime.errors import InvalidArgument

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

_MAX_DEFINITIONS = 1000
"""Most rules or references in a spec. llguidance follows them recursively; a chain of 2,500 overflows its stack."""
_MAX_SPEC_BYTES = 1 << 20
_MAX_MESSAGE = 500
_LIBRARYS_ADVICE = "coerce_one_of"
"""An option of llguidance that its error recommends, and that no request can set."""
_JSON_OPTIONS: "JsonCompileOptions" = {
    # llama.cpp's limit: without one, small models pad their JSON with white space until max_tokens
    "whitespace_pattern": r"(\x20|\n{1,2}[\x20\t]{0,20})",
}


def check_size(output_format: OutputFormat) -> None:
    """Raises InvalidArgument for a spec of more than a mebibyte, before anything else looks at it."""
    if len(output_format.spec.encode(errors="replace")) > _MAX_SPEC_BYTES:
        raise refusal(output_format, f"longer than {_MAX_SPEC_BYTES} bytes")


def to_grammar(output_format: OutputFormat) -> str:
    """The format in llguidance's terms. Raises InvalidArgument for one that must not reach llguidance."""
    check_size(output_format)
    grammar = _own_grammar(output_format)
    return _after(output_format.before, grammar) if output_format.before else grammar


def _own_grammar(output_format: OutputFormat) -> str:
    """The format itself, without what may come before it."""
    from llguidance import LLMatcher

    spec = output_format.spec
    if output_format.kind == "json_schema":
        return _json_grammar(output_format)
    if output_format.kind == "regex":
        return str(LLMatcher.grammar_from_regex(spec))
    if _count_definitions(spec) > _MAX_DEFINITIONS:
        raise refusal(output_format, f"more than {_MAX_DEFINITIONS} definitions")
    if is_gbnf(spec):
        try:
            spec = gbnf_to_lark(spec)
        except ValueError as error:
            raise refusal(output_format, str(error)) from error
    return str(LLMatcher.grammar_from_lark(spec))


def _after(before: str, grammar: str) -> str:
    """A grammar that begins after what the rules of `before` allow."""
    try:
        (inner,) = json.loads(grammar)["grammars"]
    except ValueError:  # a grammar in Lark comes as it is
        inner = {"lark_grammar": grammar}
    outer = {"lark_grammar": f"start: before @answer\n{before}"}
    return json.dumps({"grammars": [outer, {**inner, "name": "answer"}]})


def _count_definitions(spec: str) -> int:
    """At most how many rules a grammar has, and references in its JSON schemas, whose other colons mean nothing."""
    count, rest, decoder = 0, spec, json.JSONDecoder()
    while True:
        rules, found, rest = rest.partition("%json")
        count += rules.count(":")
        if not found:
            return count
        text = rest.lstrip()
        try:
            schema, end = decoder.raw_decode(text)
        except (ValueError, RecursionError):  # llguidance says what is wrong
            continue
        count += json.dumps(schema).count('"$ref"')
        rest = text[end:]


def refusal(output_format: OutputFormat, message: str) -> InvalidArgument:
    """The error for a format that cannot be used; it names the field ("format.regex")."""
    if _LIBRARYS_ADVICE in message:
        message = "the branches of its oneOf may match the same value, which cannot be ruled out; use anyOf"
    if output_format.kind == "json_schema":
        message = name_keyword(message.strip(), output_format.spec)
    short = message.strip().partition("\n<state>")[0].removesuffix("\n<non-verbose/>")[:_MAX_MESSAGE]
    name = output_format.kind.replace("_", " ")
    return InvalidArgument(f"invalid {name}: {short}", fields={f"format.{output_format.kind}": short})


def _json_grammar(output_format: OutputFormat) -> str:
    try:
        schema = json.loads(output_format.spec)
        references = json.dumps(schema).count('"$ref"')
        if isinstance(schema, dict):
            point_at_anchors(schema)
            if not output_format.open_objects:
                close_objects(schema)
            drop_idle_keywords(schema)
            allow_disjoint_branches(schema)
        endless = isinstance(schema, dict) and is_endless(schema)
        problem = uncountable(schema) if isinstance(schema, dict) else ""
    except RecursionError:
        raise refusal(output_format, "nested too deeply") from None
    except ValueError as error:
        raise refusal(output_format, f"not valid JSON: {error}") from error
    if not isinstance(schema, dict) and schema is not True:
        raise refusal(output_format, "the schema must be an object or true")
    if references > _MAX_DEFINITIONS:
        raise refusal(output_format, f"more than {_MAX_DEFINITIONS} references")
    if endless:
        raise refusal(output_format, "no output can satisfy it: each value would have to contain a further one")
    if problem:
        raise refusal(output_format, problem)
    if schema is True:
        schema = {}
    elif not schema:
        # {} means "any JSON object" in our API, but "any value" in JSON Schema
        schema = {"type": "object"}
    from llguidance import LLMatcher

    try:
        return str(LLMatcher.grammar_from_json_schema(json.dumps(schema), _JSON_OPTIONS))
    except ValueError as error:
        raise refusal(output_format, str(error)) from error
