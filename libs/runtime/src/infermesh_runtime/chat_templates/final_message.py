"""Leaves the last message of a conversation open, so that an answer continues it."""

from collections.abc import Mapping
from typing import Any

from infermesh_runtime.errors import InvalidArgument

_END = "opentail7q3x"
"""Stands for the end of the message while the template runs, which closes the message after it."""


def open_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message with a mark at its end."""
    content = message["content"]
    if isinstance(content, list):
        ends_in_text = content and "text" in content[-1]
        *before, last = content if ends_in_text else [*content, {"type": "text", "text": ""}]
        return {**message, "content": [*before, {**last, "text": last["text"] + _END}]}
    return {**message, "content": content + _END}


def cut_open(text: str) -> str:
    """The text up to the mark. Raises InvalidArgument if it has none."""
    before, found, _ = text.rpartition(_END)
    if not found:
        raise InvalidArgument("does not show the end of the last message, so an answer cannot continue it")
    return before
