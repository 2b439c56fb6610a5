"""Finds messages that a template leaves out without saying so."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from infermesh_runtime.chat_templates.content import texts_of

_WORD = "lostword7q3x"


def lost_message(
    messages: Sequence[Mapping[str, Any]], text: str, render: Callable[[Sequence[Mapping[str, Any]]], str | None]
) -> int | None:
    """The index of the first message that has no trace in `text`, its rendering; None when all have.

    A template may change what it is given, so a message whose content is not in the text counts as lost only if a word
    in its place is not there either. `render` makes the text of other messages, or None when the template rejects them.
    """
    missing = [index for index, message in enumerate(messages) if not _is_in(message, text)]
    if not missing:
        return None
    words = {index: f"{_WORD}{index}x" for index in missing}
    probe = render([_replace(message, words.get(index)) for index, message in enumerate(messages)])
    if probe is None:
        return None
    return next((index for index, word in words.items() if word not in probe.lower()), None)


def _is_in(message: Mapping[str, Any], text: str) -> bool:
    """Whether all texts of a message are in the text. For an assistant's tool calls, their functions' names count."""
    if message.get("tool_calls"):
        return all(call["function"]["name"] in text for call in message["tool_calls"])
    return all(part.strip() in text for part in texts_of(message))


def _replace(message: Mapping[str, Any], word: str | None) -> Mapping[str, Any]:
    if word is None:
        return message
    if message.get("tool_calls"):
        calls = [{**call, "function": {**call["function"], "name": word}} for call in message["tool_calls"]]
        return {**message, "tool_calls": calls}
    content = [{"type": "text", "text": word}] if isinstance(message["content"], list) else word
    return {**message, "content": content}
