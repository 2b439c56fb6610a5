"""Finds out whether a chat template can render any conversation at all."""

from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import TemplateError, UndefinedError

from infermesh_runtime.chat_templates.chat_template import ChatTemplate
from infermesh_runtime.errors import InvalidArgument

_DIALOGS: Sequence[Sequence[str]] = (("user",), ("system", "user"), ("user", "assistant", "user"))
_TOOL: Mapping[str, Any] = {
    "type": "function",
    "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {}}},
}


def why_unusable(template: ChatTemplate) -> str | None:
    """What is wrong with a template that would reject every conversation; None for any other.

    A template that rejects them in its own words, with raise_exception, or leaves out a message, may want another
    conversation, and one that lacks a variable may get it with a request: none of them is called unusable.
    """
    first = None
    for tools in (None, [_TOOL]):
        for roles in _DIALOGS:
            messages = [{"role": role, "content": f"text{index}"} for index, role in enumerate(roles)]
            try:
                template.render(messages, tools=tools)
            except InvalidArgument as error:
                cause = error.__cause__
                if cause is None or type(cause) is TemplateError or isinstance(cause, UndefinedError):
                    return None
                first = first or error.message
            else:
                return None
    return first
