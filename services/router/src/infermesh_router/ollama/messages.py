"""Converts the messages of Ollama's chats to OpenAI's, which name each tool call by an id."""

from collections import deque
from collections.abc import Sequence
from typing import Any

import orjson

from infermesh_router.ollama.schema import Message, ToolCall


def openai_messages(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """The messages in OpenAI's form. A result answers the call whose id or function it names, or else the next one."""
    open_calls: deque[tuple[str, str]] = deque()
    """The id and the function of each call that has no result yet."""
    converted = []
    for index, message in enumerate(messages):
        made: dict[str, Any] = {"role": message.role, "content": message.content or ""}
        if message.thinking:
            made["reasoning_content"] = message.thinking
        if message.tool_calls:
            made["tool_calls"] = [_call(call, f"call_{index}_{n}") for n, call in enumerate(message.tool_calls)]
            open_calls = deque((call["id"], call["function"]["name"]) for call in made["tool_calls"])
        if message.tool_name and message.role == "tool":
            made["name"] = message.tool_name
        if message.role == "tool":
            made["tool_call_id"] = message.tool_call_id or _take(open_calls, message.tool_name) or f"call_{index}"
        converted.append(made)
    return converted


def _call(call: ToolCall, new_id: str) -> dict[str, Any]:
    arguments = orjson.dumps(call.function.arguments).decode()
    return {
        "id": call.id or new_id,
        "type": "function",
        "function": {"name": call.function.name, "arguments": arguments},
    }


def _take(calls: deque[tuple[str, str]], name: str | None) -> str:
    """Takes a call out of those without a result, and returns its id; "" if there are none."""
    found = next((call for call in calls if call[1] == name), calls[0] if calls else None)
    if found is None:
        return ""
    calls.remove(found)
    return found[0]
