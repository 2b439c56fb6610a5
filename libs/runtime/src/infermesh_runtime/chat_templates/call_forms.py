"""Gives a template the tool calls of a conversation in the form that it takes.

Most templates take arguments as an object, some as text; and some show a call only if the content beside it is none.
Arguments that are no JSON object, as those of a call that a limit cut off, are text, which must not get lost.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from infermesh_runtime.errors import InvalidArgument

KEY = "arguments"
"""Text becomes the value of this key where a template takes objects alone."""

Messages = Sequence[Mapping[str, Any]]


def render_calls(messages: Messages, render: Callable[[Messages], str]) -> str:
    """The text of the messages in the first form in which the template shows all calls, or the first that it takes.

    Raises InvalidArgument if it takes none, or if it shows arguments that are text in none.
    """
    if not any(message.get("tool_calls") for message in messages):
        return render(messages)
    taken, refusal = None, None
    for form in _forms(messages):
        try:
            text = render(form)
        except InvalidArgument as error:
            refusal = refusal or error
            continue
        if _shows_calls(messages, text):
            return text
        taken = text if taken is None else taken
    if taken is not None and not any(_broken(messages)):
        return taken
    raise refusal or InvalidArgument("leaves out arguments of a tool call that are no JSON object")


def _forms(messages: Messages) -> Iterator[Messages]:
    yield messages
    changed = [_map_arguments(message, _change) for message in messages]
    yield changed
    for form in (messages, changed):
        yield [{**each, "content": None} if each.get("tool_calls") and not each["content"] else each for each in form]


def _map_arguments(message: Mapping[str, Any], change: Callable[[Any], Any]) -> Mapping[str, Any]:
    if not message.get("tool_calls"):
        return message
    functions = [call["function"] for call in message["tool_calls"]]
    changed = [{**function, "arguments": change(function["arguments"])} for function in functions]
    calls = zip(message["tool_calls"], changed, strict=True)
    return {**message, "tool_calls": [{**call, "function": function} for call, function in calls]}


def _change(arguments: Mapping[str, Any] | str) -> Mapping[str, Any] | str:
    return {KEY: arguments} if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False)


def _shows_calls(messages: Messages, text: str) -> bool:
    """Whether the names of all called functions are in the text, and the arguments that are text: as they are, or as
    a JSON string, which may escape what is not ASCII."""
    names = (call["function"]["name"] for message in messages for call in message.get("tool_calls", ()))
    return all(name in text for name in names) and all(
        part.strip() in text or json.dumps(part, ensure_ascii=False)[1:-1] in text or json.dumps(part)[1:-1] in text
        for part in _broken(messages)
    )


def _broken(messages: Messages) -> Iterator[str]:
    for message in messages:
        for call in message.get("tool_calls", ()):
            if isinstance(arguments := call["function"]["arguments"], str):
                yield arguments
