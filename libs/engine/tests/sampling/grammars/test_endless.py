"""JSON schemas that no finite value satisfies are refused at once; others that refer to themselves are not."""

import json
from typing import Any

import pytest

from infermesh_engine.requests.request import OutputFormat
from infermesh_engine.sampling.grammars.endless import is_endless
from infermesh_engine.sampling.grammars.source import to_grammar
from infermesh_runtime.errors import InvalidArgument

ITSELF = {"$ref": "#"}


def node(following: Any, **more: Any) -> dict[str, Any]:
    return {"type": "object", "properties": {"next": following}, "required": ["next"], **more}


@pytest.mark.parametrize(
    "schema",
    [
        ITSELF,
        node(ITSELF),
        node({"anyOf": [ITSELF, node(ITSELF)]}),
        node({"allOf": [ITSELF]}),
        {"type": "array", "items": ITSELF, "minItems": 1},
        {"type": "array", "prefixItems": [{"type": "null"}, ITSELF], "minItems": 2},
        {"type": ["array", "object"], "items": ITSELF, "minItems": 1, "properties": {"a": ITSELF}, "required": ["a"]},
        {"$ref": "#/$defs/a", "$defs": {"a": node({"$ref": "#/$defs/b"}), "b": node({"$ref": "#/$defs/a"})}},
    ],
    ids=json.dumps,
)
def test_schema_without_a_finite_value_is_refused(schema: dict[str, Any]) -> None:
    assert is_endless(schema)
    with pytest.raises(InvalidArgument, match="no output can satisfy it"):
        to_grammar(OutputFormat(kind="json_schema", spec=json.dumps(schema)))


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"type": "object", "properties": {"next": ITSELF}},
        node({"anyOf": [ITSELF, {"type": "null"}]}),
        node(ITSELF, type=["object", "null"]),
        node(ITSELF, type=None),
        node({"const": 1, "$defs": {"a": ITSELF}}),
        {"type": "array", "items": ITSELF},
        {"type": "array", "prefixItems": [{"type": "null"}, ITSELF], "minItems": 1},
        {"$ref": "#/$defs/a", "$defs": {"a": node({"$ref": "#/$defs/b"}), "b": {"type": "array", "items": ITSELF}}},
    ],
    ids=json.dumps,
)
def test_schema_with_a_finite_value_is_not(schema: dict[str, Any]) -> None:
    assert not is_endless(schema)


def test_long_chain_is_judged() -> None:
    links: dict[str, Any] = {f"d{index}": node({"$ref": f"#/$defs/d{index + 1}"}) for index in range(300)}
    assert not is_endless({"$ref": "#/$defs/d0", "$defs": {**links, "d300": {"type": "null"}}})
    assert is_endless({"$ref": "#/$defs/d0", "$defs": {**links, "d300": node({"$ref": "#/$defs/d0"})}})
