"""What the tools of a chat body become: in the contract, and for the parser of the answer."""

import json
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.bodies import BodyRules
from infermesh_router.openai.conversion import Converted, convert_chat
from infermesh_router.openai.convert.chat import chat_job
from infermesh_router.openai.schema.chat import ChatRequest
from infermesh_router.requests.bounds import Bounds
from infermesh_router.testing.dialects.openai_bodies import CALL, TOOL, USER, chat, parse_chat

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Tells it.", "parameters": SCHEMA}}
NAMED = {"type": "function", "function": {"name": "f"}}
REQUIRED = pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_REQUIRED)


def allowed(mode: str, *names: str) -> dict[str, Any]:
    tools = [{"type": "function", "function": {"name": name}} for name in names]
    return {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": tools}}


def converted(**fields: Any) -> Converted:
    rules = BodyRules(ignore_unknown=False, max_bytes=1 << 20, bounds=Bounds())
    body = json.dumps({"model": "m", "messages": [USER]} | fields).encode()
    return convert_chat(HttpBody(data=body).SerializeToString(), rules)


def test_tools_reach_the_template_and_the_parser() -> None:
    request = chat(tools=[WEATHER, TOOL])
    assert list(request.chat.tools) == [
        pb.Tool(name="weather", description="Tells it.", parameters_json=json.dumps(SCHEMA, separators=(",", ":"))),
        pb.Tool(name="f", parameters_json='{"type":"object"}'),
    ]
    assert not request.chat.HasField("tool_choice")
    assert not request.chat.HasField("parallel_tool_calls")
    job = chat_job(parse_chat(tools=[WEATHER, TOOL]))
    assert job.tools == {"weather": SCHEMA, "f": {"type": "object"}}
    assert not job.single_call


@pytest.mark.parametrize(
    ("choice", "expected", "told"),
    [
        ("auto", None, ["weather", "f"]),
        ("none", None, []),
        ("required", REQUIRED, ["weather", "f"]),
        (NAMED, pb.ToolChoice(mode=pb.TOOL_CHOICE_MODE_REQUIRED, name="f"), ["weather", "f"]),
        (allowed("auto", "f"), None, ["f"]),
        (allowed("required", "f"), REQUIRED, ["f"]),
    ],
)
def test_each_choice(choice: object, expected: pb.ToolChoice | None, told: list[str]) -> None:
    request = chat(tools=[WEATHER, TOOL], tool_choice=choice)
    assert [tool.name for tool in request.chat.tools] == told
    assert (request.chat.tool_choice if request.chat.HasField("tool_choice") else None) == expected
    assert list(chat_job(parse_chat(tools=[WEATHER, TOOL], tool_choice=choice)).tools) == told


def test_one_call_at_most() -> None:
    request = chat(tools=[TOOL], parallel_tool_calls=False)
    assert request.chat.HasField("parallel_tool_calls")
    assert not request.chat.parallel_tool_calls
    assert chat_job(parse_chat(tools=[TOOL], parallel_tool_calls=False)).single_call


def test_the_deprecated_form_is_the_same_request() -> None:
    new = chat(
        messages=[
            USER,
            {"role": "assistant", "content": None, "tool_calls": [CALL | {"id": "call_f"}]},
            {"role": "tool", "content": "4", "tool_call_id": "call_f", "name": "f"},
        ],
        tools=[TOOL],
        tool_choice=NAMED,
        parallel_tool_calls=False,
    )
    old = chat(
        messages=[
            USER,
            {"role": "assistant", "content": None, "function_call": CALL["function"]},
            {"role": "function", "content": "4", "name": "f"},
        ],
        functions=[TOOL["function"]],
        function_call={"name": "f"},
    )
    assert old == new
    assert chat_job(parse_chat(functions=[TOOL["function"]])).single_call


def test_strictness_is_named_where_calls_are_not_forced() -> None:
    strict = {"type": "function", "function": {"name": "f", "strict": True}}
    assert converted(tools=[strict]).ignored == ("tools[].function.strict",)
    assert converted(tools=[strict], tool_choice="required").ignored == ()
    assert converted(tools=[TOOL | {"cache_control": {"type": "ephemeral"}}]).ignored == ("tools[].cache_control",)


def test_dialects_may_give_objects() -> None:
    parsed = parse_chat(tools=[TOOL], tool_choice=allowed("required", "f"))
    again = ChatRequest(model="m", messages=parsed.messages, tools=parsed.tools, tool_choice=parsed.tool_choice)
    assert chat_job(again).tools == {"f": {"type": "object"}}


def test_errors_of_forced_calls_name_the_tools() -> None:
    assert chat_job(parse_chat(tools=[TOOL], tool_choice="required")).field_names["format"] == "tools"
