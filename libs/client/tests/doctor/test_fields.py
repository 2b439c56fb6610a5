"""Names and places of fields in a body, and bodies without them."""

from typing import Any

import pytest

from infermesh_client.doctor.fields import Place, find_place, list_fields, without, without_positions

BODY: dict[str, Any] = {
    "messages": [
        {"role": "user", "content": [{"type": "text", "cache_control": {"type": "ephemeral"}}]},
        {"role": "x"},
    ],
    "tools": [{"input_schema": {"type": "object"}}],
    "metadata": {"team": "blue"},
    "input": "text",
    "format": {"type": "object", "properties": {}},
    "text": {"format": {"type": "json_schema", "schema": {"type": "object"}}},
    "include": [],
}


def test_fields_have_names_without_positions() -> None:
    fields = list_fields(BODY)
    assert list(fields) == [
        "messages",
        "messages[].role",
        "messages[].content",
        "messages[].content[].type",
        "messages[].content[].cache_control",
        "messages[].content[].cache_control.type",
        "tools",
        "tools[].input_schema",
        "metadata",
        "input",
        "format",
        "text",
        "text.format",
        "text.format.type",
        "text.format.schema",
        "include",
    ]
    assert fields["messages[].role"] == [("messages", 0, "role"), ("messages", 1, "role")]


@pytest.mark.parametrize(
    ("param", "place"),
    [
        ("messages[1].role", ("messages", 1, "role")),
        ("messages.1.role", ("messages", 1, "role")),
        ("messages[1].content", ("messages", 1)),
        ("messages[7].role", ("messages",)),
        ("nothing", None),
        ("", None),
    ],
)
def test_an_error_names_a_place(param: str, place: Place | None) -> None:
    assert find_place(BODY, param) == place


def test_what_is_left_empty_goes_too() -> None:
    assert "tools" not in without(BODY, ("tools", 0, "input_schema"))
    assert without(BODY, ("messages", 1, "role"))["messages"] == BODY["messages"][:1]
    smaller = without(BODY, ("messages", 0, "content", 0, "cache_control", "type"))
    assert smaller["messages"][0]["content"] == [{"type": "text"}]
    assert len(BODY["messages"]) == 2


def test_positions_are_removed() -> None:
    assert without_positions("a[0].b[12].c") == "a[].b[].c"
