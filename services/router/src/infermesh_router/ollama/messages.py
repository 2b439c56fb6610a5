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
        made: dict[str, Any] = {"role": message.role, "content": with_images(message.content or "", message.images)}
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


def with_images(text: str, images: Sequence[str] | None) -> str | list[dict[str, Any]]:
    """A content in OpenAI's form. Images come before the text, as with Ollama."""
    if not images:
        return text
    urls = ({"url": f"data:image/*;base64,{image}"} for image in images)
    return [*({"type": "image_url", "image_url": url} for url in urls), {"type": "text", "text": text}]


def image_paths(messages: Sequence[Message]) -> list[str]:
    """Where each image is in the body, in order."""
    images = ((index, number) for index, each in enumerate(messages) for number in range(len(each.images or ())))
    return [f"messages[{index}].images[{number}]" for index, number in images]


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
