"""Tools in bodies of /v1/messages, and answers that call them."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.anthropic.convert import convert_count, convert_messages
from infermesh_router.openai.bodies import BodyRules
from infermesh_router.openai.conversion import Converted
from infermesh_router.requests.bounds import Bounds
from infermesh_router.testing.dialects.anthropic import ask, body_message
from infermesh_router.testing.router import RunningRouter, StartRouter, StartWorker, delta, finished, started
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.rpc.context import RpcContext

RULES = BodyRules(ignore_unknown=False, max_bytes=1 << 20, bounds=Bounds())
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}
TOOL = {"name": "f", "description": "Does f.", "input_schema": SCHEMA}
TOOLS = [TOOL, {"type": "custom", "name": "g", "input_schema": {"type": "object"}}]
AUTO, NONE, REQUIRED = pb.TOOL_CHOICE_MODE_UNSPECIFIED, pb.TOOL_CHOICE_MODE_NONE, pb.TOOL_CHOICE_MODE_REQUIRED


def converted(**fields: Any) -> Converted:
    return convert_messages(body_message(**fields), RULES)


def prompt(**fields: Any) -> pb.ChatPrompt:
    (call,) = converted(**fields).job.calls
    return pb.GenerateRequest.FromString(call.body).chat


def test_tools_are_those_of_a_chat() -> None:
    chat = prompt(tools=TOOLS)
    assert [tool.name for tool in chat.tools] == ["f", "g"]
    assert (chat.tools[0].description, json.loads(chat.tools[0].parameters_json)) == ("Does f.", SCHEMA)
    assert not chat.HasField("tool_choice")
    assert converted(tools=TOOLS).job.tools == {"f": SCHEMA, "g": {"type": "object"}}


@pytest.mark.parametrize(
    ("choice", "mode", "name"),
    [
        ({"type": "auto"}, AUTO, ""),
        ({"type": "any"}, REQUIRED, ""),
        ({"type": "tool", "name": "g"}, REQUIRED, "g"),
    ],
)
def test_which_tool_must_be_called(choice: dict[str, Any], mode: pb.ToolChoiceMode, name: str) -> None:
    chat = prompt(tools=TOOLS, tool_choice=choice)
    assert (chat.tool_choice.mode, chat.tool_choice.name) == (mode, name)


def test_no_tool_may_be_called() -> None:
    assert not converted(tools=TOOLS, tool_choice={"type": "none"}).job.tools


def test_one_call_at_a_time() -> None:
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    assert converted(tools=TOOLS, tool_choice=choice).job.single_call
    assert prompt(tools=TOOLS, tool_choice=choice).parallel_tool_calls is False


def test_a_count_has_the_tools() -> None:
    (call,) = convert_count(body_message(max_tokens=None, tools=TOOLS), RULES).job.calls
    assert pb.TokenizeRequest.FromString(call.body).chat == prompt(tools=TOOLS)


def test_hints_of_tools_are_named() -> None:
    tool = TOOL | {"defer_loading": True, "input_examples": [{}], "strict": True, "cache_control": {"type": "x"}}
    assert set(converted(tools=[tool]).ignored) == {
        "tools[].defer_loading",
        "tools[].input_examples",
        "tools[].strict",
    }
    assert "tools[].strict" not in converted(tools=[tool], tool_choice={"type": "any"}).ignored


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"tool_choice": {"type": "tool"}}, "'tool_choice.name' is required"),
        ({"tool_choice": {"type": "tool", "name": "h"}}, "names 'h', which is not among the 'tools'"),
        ({"tools": [{"name": "f"}]}, "'tools[0].input_schema' is required"),
        ({"tools": [{"name": "a b", "input_schema": {}}]}, "'tools[0].name' must match"),
    ],
)
def test_what_is_refused_is_named(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        converted(**{"tools": TOOLS, **fields})
    assert told in refused.value.message


async def call_twice(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    begun = started(request.model, request.seed)
    begun.started.answer_style.tool_format = "hermes"
    yield begun
    for piece in ("I look.", '\n<tool_call>{"name": "f", "argu', 'ments": {"a": 1}}</tool_', "call>"):
        yield delta(piece)
    yield delta('<tool_call>{"name": "g", "arguments": {}}</tool_call>')
    yield finished()


@pytest.fixture
async def router(start_worker: StartWorker, start_router: StartRouter) -> RunningRouter:
    return await start_router(await start_worker(script=call_twice))


async def test_calls_of_a_message(router: RunningRouter) -> None:
    body = (await ask(router, tools=TOOLS)).body
    text, one, two = body["content"]
    assert text["text"].strip() == "I look."
    assert (one["type"], one["name"], one["input"]) == ("tool_use", "f", {"a": 1})
    assert (two["name"], two["input"]) == ("g", {})
    assert body["stop_reason"] == "tool_use"


async def test_calls_of_a_stream(router: RunningRouter) -> None:
    events = (await ask(router, tools=TOOLS, stream=True)).events
    starts = [event["content_block"] for event in events if event["type"] == "content_block_start"]
    assert [(each["type"], each.get("name"), each.get("input")) for each in starts] == [
        ("text", None, None),
        ("tool_use", "f", {}),
        ("tool_use", "g", {}),
    ]
    pieces = [event["delta"]["partial_json"] for event in events if event.get("delta", {}).get("partial_json")]
    assert json.loads("".join(pieces).removesuffix("{}")) == {"a": 1}
    assert events[-2]["delta"]["stop_reason"] == "tool_use"


async def test_only_the_first_call_where_calls_are_not_parallel(router: RunningRouter) -> None:
    choice = {"type": "auto", "disable_parallel_tool_use": True}
    content = (await ask(router, tools=TOOLS, tool_choice=choice)).body["content"]
    assert [block.get("name") for block in content] == [None, "f"]
    events = (await ask(router, tools=TOOLS, tool_choice=choice, stream=True)).events
    starts = [event["content_block"].get("name") for event in events if event["type"] == "content_block_start"]
    assert starts == [None, "f"]


async def test_without_tools_calls_are_text(router: RunningRouter) -> None:
    (text,) = (await ask(router, tools=TOOLS, tool_choice={"type": "none"})).body["content"]
    assert "<tool_call>" in text["text"]
