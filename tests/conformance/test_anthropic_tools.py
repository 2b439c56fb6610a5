"""Tools with the unmodified anthropic package: forced calls, the loop of calls and results, streams, and counts."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from anthropic import beta_tool
from anthropic.types import MessageParam, ToolParam, ToolUseBlock

from tests.conformance.tool_model import TOOL_MODEL
from tests.e2e.mesh import Mesh

pytestmark = pytest.mark.timeout(120)

QUESTION: list[MessageParam] = [{"role": "user", "content": "What is the weather in Paris?"}]
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}, "days": {"type": "integer", "minimum": 1, "maximum": 3}},
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER: ToolParam = {"name": "weather", "description": "Tells the weather.", "input_schema": SCHEMA}
TIME: ToolParam = {"name": "time", "input_schema": {"type": "object", "properties": {}, "additionalProperties": False}}
ASKED: dict[str, Any] = {
    "model": TOOL_MODEL,
    "max_tokens": 60,
    "extra_body": {"temperature": 0, "thinking": {"type": "disabled"}},
}


@pytest.fixture
def client(tool_mesh: Mesh) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=tool_mesh.envoy.http, api_key="any", max_retries=0, timeout=60) as opened:
        yield opened


def call_of(message: anthropic.types.Message) -> ToolUseBlock:
    (call,) = [block for block in message.content if isinstance(block, ToolUseBlock)]
    return call


def check_weather(call: ToolUseBlock) -> None:
    assert call.name == "weather"
    assert set(call.input) == {"city", "days"}
    assert call.input["city"] in ("Paris", "Rome")
    assert call.input["days"] in (1, 2, 3)


def test_a_named_call_keeps_to_its_schema(client: anthropic.Anthropic, tool_mesh: Mesh) -> None:
    message = client.messages.create(
        messages=QUESTION, tools=[TIME, WEATHER], tool_choice={"type": "tool", "name": "weather"}, **ASKED
    )
    check_weather(call_of(message))
    assert message.stop_reason == "tool_use"
    functions = [
        {"name": "time", "parameters": TIME["input_schema"]},
        {"name": "weather", "description": "Tells the weather.", "parameters": SCHEMA},
    ]
    body = {
        "model": TOOL_MODEL,
        "messages": QUESTION,
        "tools": [{"type": "function", "function": function} for function in functions],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "max_tokens": 60,
        "temperature": 0,
        "enable_thinking": False,
    }
    with tool_mesh.http() as http:
        same = http.post("/v1/chat/completions", json=body).json()
    (call,) = same["choices"][0]["message"]["tool_calls"]
    assert json.loads(call["function"]["arguments"]) == call_of(message).input
    assert same["usage"]["completion_tokens"] == message.usage.output_tokens


def test_calls_and_results_go_round(client: anthropic.Anthropic) -> None:
    tools = [WEATHER, TIME]
    choice: Any = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
    first = client.messages.create(messages=QUESTION, tools=tools, tool_choice=choice, **ASKED)
    call = call_of(first)
    messages: list[MessageParam] = [
        *QUESTION,
        first.to_param(),
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": call.id, "content": "Sunny."}]},
    ]
    asked = ASKED | {"max_tokens": 8}
    last = client.messages.create(messages=messages, tools=tools, tool_choice={"type": "none"}, **asked)
    assert last.content[0].type == "text"
    failed: MessageParam = {
        "role": "user",
        "content": [
            {
                "type": "tool_result",
                "tool_use_id": call.id,
                "content": [{"type": "text", "text": "No such city."}],
                "is_error": True,
            }
        ],
    }
    counted = [
        client.messages.count_tokens(model=TOOL_MODEL, messages=[*messages[:2], result], tools=tools).input_tokens
        for result in (messages[2], failed)
    ]
    assert counted[0] < counted[1]


def test_a_streamed_call(client: anthropic.Anthropic) -> None:
    choice: Any = {"type": "any", "disable_parallel_tool_use": True}
    with client.messages.stream(messages=QUESTION, tools=[WEATHER], tool_choice=choice, **ASKED) as stream:
        pieces = [event.partial_json for event in stream if event.type == "input_json"]
        message = stream.get_final_message()
    check_weather(call_of(message))
    assert len(pieces) > 2
    assert json.loads("".join(pieces)) == call_of(message).input
    assert message.stop_reason == "tool_use"


def test_tools_are_a_part_of_the_counted_prompt(client: anthropic.Anthropic) -> None:
    without = client.messages.count_tokens(model=TOOL_MODEL, messages=QUESTION).input_tokens
    with_tools = client.messages.count_tokens(model=TOOL_MODEL, messages=QUESTION, tools=[WEATHER]).input_tokens
    assert with_tools > without + 50
    usage = client.messages.create(messages=QUESTION, tools=[WEATHER], **(ASKED | {"max_tokens": 1})).usage
    thinking: Any = {"type": "disabled"}
    counted = client.messages.count_tokens(model=TOOL_MODEL, messages=QUESTION, tools=[WEATHER], thinking=thinking)
    assert counted.input_tokens == usage.input_tokens + (usage.cache_read_input_tokens or 0)


@pytest.mark.cpu_only
def test_the_loop_of_the_package_runs_the_tool(client: anthropic.Anthropic) -> None:
    asked: list[str] = []

    @beta_tool
    def lookup(city: str) -> str:
        """Tells the weather of a city."""
        asked.append(city)
        return "Sunny."

    runner = client.beta.messages.tool_runner(
        messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        tools=[lookup],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
        max_iterations=2,
        **ASKED,
    )
    messages = list(runner)
    assert len(messages) == 2
    assert asked
    assert messages[1].usage.input_tokens + (messages[1].usage.cache_read_input_tokens or 0) > (
        messages[0].usage.input_tokens + (messages[0].usage.cache_read_input_tokens or 0)
    )


def test_thinking_is_told_apart(client: anthropic.Anthropic) -> None:
    begun: list[MessageParam] = [
        *QUESTION,
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "I know this.", "signature": "from elsewhere"},
                {"type": "text", "text": "It is"},
            ],
        },
    ]
    message = client.messages.create(messages=begun, **(ASKED | {"max_tokens": 8}))
    assert message.content[0].type == "text"
    enabled: Any = {"type": "enabled", "budget_tokens": 1024}
    thinking = client.messages.count_tokens(model=TOOL_MODEL, messages=QUESTION, thinking=enabled).input_tokens
    disabled = client.messages.count_tokens(
        model=TOOL_MODEL, messages=QUESTION, thinking={"type": "disabled"}
    ).input_tokens
    assert thinking < disabled  # the template closes the thinking that it does not want
