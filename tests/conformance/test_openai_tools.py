"""Tools and reasoning end to end: the real model with a template that takes tools, through Envoy, with the SDK."""

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from canitoolcall.checks import schema_errors
from openai.types.chat import (
    ChatCompletionMessage,
    ChatCompletionMessageFunctionToolCall,
    ChatCompletionMessageParam,
    ChatCompletionToolUnionParam,
)

from tests.conformance.tool_model import TOOL_MODEL
from tests.e2e.mesh import Mesh

pytestmark = pytest.mark.timeout(120, func_only=True)

SCHEMAS: dict[str, dict[str, Any]] = {
    "get_weather": {
        "type": "object",
        "properties": {
            "city": {"type": "string", "enum": ["Paris", "Oslo", "Rome"]},
            "days": {"type": "integer", "minimum": 1, "maximum": 14},
        },
        "required": ["city", "days"],
    },
    "set_alarm": {
        "type": "object",
        "properties": {
            "time": {"type": "string", "pattern": "^[0-2][0-9]:[0-5][0-9]$"},
            "loud": {"type": "boolean"},
        },
        "required": ["time", "loud"],
        "additionalProperties": False,
    },
    "stop": {"type": "object", "properties": {}},
}
TOOLS: list[ChatCompletionToolUnionParam] = [
    {"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in SCHEMAS.items()
]


@pytest.fixture
def client(tool_mesh: Mesh) -> Iterator[openai.OpenAI]:
    with tool_mesh.openai() as opened:
        yield opened


def ask(text: str) -> list[ChatCompletionMessageParam]:
    return [{"role": "user", "content": text}]


def only_call(message: ChatCompletionMessage) -> ChatCompletionMessageFunctionToolCall:
    assert message.tool_calls
    (call,) = message.tool_calls
    assert isinstance(call, ChatCompletionMessageFunctionToolCall)
    return call


@pytest.mark.cpu_only
def test_forced_calls_validate(client: openai.OpenAI) -> None:
    answer = client.with_options(timeout=100).chat.completions.create(
        model=TOOL_MODEL,
        messages=ask("Hello!"),
        tools=TOOLS,
        tool_choice="required",
        parallel_tool_calls=False,
        n=4,
        temperature=0.3,
        seed=1,
        max_tokens=80,
    )
    for choice in answer.choices:
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
        call = only_call(choice.message)
        assert schema_errors(SCHEMAS[call.function.name], json.loads(call.function.arguments)) == []


def test_the_tools_loop(client: openai.OpenAI) -> None:
    messages = ask("What is the weather in Paris?")
    named: Any = {"type": "function", "function": {"name": "get_weather"}}
    first = client.chat.completions.create(
        model=TOOL_MODEL, messages=messages, tools=TOOLS, tool_choice=named, max_tokens=60, temperature=0
    )
    (choice,) = first.choices
    call = only_call(choice.message)
    assert call.function.name == "get_weather"
    sent: Any = choice.message.model_dump(exclude_none=True)
    messages += [sent, {"role": "tool", "tool_call_id": call.id, "content": "Sunny, 21 degrees."}]
    last = client.chat.completions.create(
        model=TOOL_MODEL, messages=messages, tools=TOOLS, max_tokens=24, temperature=0
    )
    assert last.choices[0].finish_reason in ("stop", "length")
    assert last.choices[0].message.content


def test_a_streamed_call(client: openai.OpenAI) -> None:
    named: Any = {"type": "function", "function": {"name": "set_alarm"}}
    with client.chat.completions.stream(
        model=TOOL_MODEL, messages=ask("Wake me."), tools=TOOLS, tool_choice=named, max_tokens=60, temperature=0
    ) as stream:
        pieces = [event.arguments_delta for event in stream if event.type == "tool_calls.function.arguments.delta"]
        (choice,) = stream.get_final_completion().choices
    assert choice.finish_reason == "tool_calls"
    call = only_call(choice.message)
    assert len(pieces) > 3
    assert "".join(pieces) == call.function.arguments
    assert schema_errors(SCHEMAS["set_alarm"], json.loads(call.function.arguments)) == []


def test_a_call_that_was_cut_off_may_come_back(client: openai.OpenAI) -> None:
    messages = ask("Wake me.")
    named: Any = {"type": "function", "function": {"name": "set_alarm"}}
    asked: dict[str, Any] = {"model": TOOL_MODEL, "tools": TOOLS, "temperature": 0}
    first = client.chat.completions.create(messages=messages, tool_choice=named, max_tokens=28, **asked)
    (choice,) = first.choices
    assert choice.finish_reason == "length"
    call = only_call(choice.message)
    with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
        json.loads(call.function.arguments)
    sent: Any = choice.message.model_dump(exclude_none=True)
    messages += [sent, {"role": "tool", "tool_call_id": call.id, "content": "The arguments are no JSON."}]
    answer = client.chat.completions.create(messages=messages, max_tokens=4, **asked)
    assert answer.choices[0].message.content


@pytest.mark.parametrize("choice", ["auto", "none", "required"])
def test_counted_tokens_are_those_of_the_prompt(client: openai.OpenAI, tool_mesh: Mesh, choice: Any) -> None:
    body: dict[str, Any] = {"model": TOOL_MODEL, "messages": ask("Hello!"), "tools": TOOLS, "tool_choice": choice}
    answer = client.chat.completions.create(max_tokens=1, **body)
    with tool_mesh.http() as http:
        counted = http.post("/tokenize", json=body).json()["count"]
        rendered = http.post("/apply-template", json=body).json()["prompt"]
    assert answer.usage is not None
    assert counted == answer.usage.prompt_tokens
    assert ("get_weather" in rendered) == (choice != "none")


@pytest.mark.cpu_only
def test_a_format_begins_after_the_reasoning(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=TOOL_MODEL,
        messages=ask("How many legs has a dog?"),
        max_tokens=48,
        temperature=0,
        extra_body={"guided_regex": "[0-9]", "enable_thinking": True},
        logprobs=True,
    )
    (choice,) = answer.choices
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    thought: str = choice.message.model_extra["reasoning_content"]  # type: ignore[index]
    assert thought
    told = len(choice.logprobs.content or ()) if choice.logprobs else 0
    assert told == answer.usage.completion_tokens
    if choice.finish_reason == "stop":
        assert choice.message.content in set("0123456789")
    assert 0 < (answer.usage.completion_tokens_details.reasoning_tokens or 0) <= answer.usage.completion_tokens


def test_without_thinking_the_format_is_all(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        model=TOOL_MODEL, messages=ask("How many?"), max_tokens=8, temperature=0, extra_body={"guided_regex": "(1|2)"}
    )
    assert answer.choices[0].message.content in ("1", "2")
