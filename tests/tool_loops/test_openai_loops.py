"""The loop of a call, its result and an answer with it, by models trained for it, through Envoy with the openai SDK."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import openai
import pytest
from canitoolcall.checks import schema_errors

from infermesh_runtime.testing.drawn_tools import draw_tools
from tests.tool_loops.weather import FUNCTION, NEXT_QUESTION, QUESTION, TEMPERATURES, result

pytestmark = pytest.mark.timeout(900)

GREEDY: dict[str, Any] = {"temperature": 0, "max_tokens": 64}
ONE_CALL: dict[str, Any] = {**GREEDY, "parallel_tool_calls": False}


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0, timeout=600) as opened:
        yield opened


def ask(client: openai.OpenAI, model: str, messages: Sequence[Any], *, stream: bool, **fields: Any) -> Any:
    """The message of the answer, and why it ended."""
    asked: dict[str, Any] = {"model": model, "messages": list(messages), **{"tools": [FUNCTION], **fields}}
    if stream:
        with client.chat.completions.stream(**asked) as events:
            (choice,) = events.get_final_completion().choices
    else:
        (choice,) = client.chat.completions.create(**asked).choices
    return choice.message, choice.finish_reason


def call_and_answer(client: openai.OpenAI, model: str, messages: list[Any], city: str, **fields: Any) -> None:
    """Adds a call for the city, its result, and an answer that has the result's value, to the conversation."""
    message, reason = ask(client, model, messages, **{**ONE_CALL, **fields})
    assert reason == "tool_calls"
    (call,) = message.tool_calls
    assert (call.function.name, json.loads(call.function.arguments)) == ("get_weather", {"city": city})
    messages.append(message.to_dict() | {"content": message.content or ""})
    messages.append({"role": "tool", "tool_call_id": call.id, "content": result(city)})
    last, reason = ask(client, model, messages, stream=fields["stream"], tool_choice="none", **GREEDY)
    assert not last.tool_calls
    assert TEMPERATURES[city] in last.content
    messages.append({"role": "assistant", "content": last.content})


@pytest.mark.parametrize("choice", ["auto", "required"])
@pytest.mark.parametrize("stream", [False, True], ids=["whole", "stream"])
def test_a_loop(client: openai.OpenAI, model: str, stream: bool, choice: str) -> None:
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    call_and_answer(client, model, messages, "Paris", stream=stream, tool_choice=choice)


def test_two_calls_in_two_turns(client: openai.OpenAI, model: str) -> None:
    messages: list[Any] = [{"role": "user", "content": QUESTION}]
    call_and_answer(client, model, messages, "Paris", stream=False)
    messages.append({"role": "user", "content": NEXT_QUESTION})
    call_and_answer(client, model, messages, "Oslo", stream=True, tool_choice="required")


def test_a_question_that_needs_no_tool(client: openai.OpenAI, model: str) -> None:
    messages = [{"role": "user", "content": QUESTION}]
    message, reason = ask(client, model, messages, stream=False, tool_choice="none", **GREEDY)
    assert not message.tool_calls
    assert reason in ("stop", "length")
    assert message.content


def force_call(client: openai.OpenAI, model: str, seed: int) -> None:
    """Forces a call of drawn tools. Only what is longer than the limit may be cut off, and nothing is."""
    schemas = draw_tools(seed)
    tools: Any = [
        {"type": "function", "function": {"name": name, "parameters": schema}} for name, schema in schemas.items()
    ]
    messages = [{"role": "user", "content": "Call a tool with any arguments."}]
    fields: dict[str, Any] = {**ONE_CALL, "tools": tools, "tool_choice": "required", "max_tokens": 400}
    message, reason = ask(client, model, messages, stream=False, **fields)
    assert reason == "tool_calls", seed
    (call,) = message.tool_calls
    schema = schemas[call.function.name] or {"type": "object", "maxProperties": 0}
    assert schema_errors(schema, json.loads(call.function.arguments)) == [], seed


def test_a_hundred_forced_calls_validate(client: openai.OpenAI, model: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        assert len(list(pool.map(partial(force_call, client, model), range(100)))) == 100
