"""The names that fields have in a body of /v1/responses, for errors that name them otherwise."""

import re

from infermesh_runtime.errors import InfermeshError, InvalidArgument

CHAT_NAMES = {
    "messages": "input",
    "max_tokens": "max_output_tokens",
    "max_completion_tokens": "max_output_tokens",
    "response_format": "text.format",
    "verbosity": "text.verbosity",
    "reasoning_effort": "reasoning.effort",
    "truncate_prompt_tokens": "truncation",
    "tools": "tools",
    "tool_choice": "tool_choice",
    "logprobs": "top_logprobs",
}
"""A field of a chat → of a response. An index in it is dropped: messages and items are not numbered alike."""

WORKER_NAMES = {
    "chat.reasoning_effort": "reasoning.effort",
    "chat.verbosity": "text.verbosity",
    "chat.tools": "tools",
    "chat.tool_choice": "tool_choice",
    "chat.template_kwargs_json": "chat_template_kwargs",
    "chat": "input",
    "prompt_options.truncate_tokens": "truncation",
    "stop.max_tokens": "max_output_tokens",
    "logprobs": "top_logprobs",
}
"""A field path of GenerateRequest → the field of a response; the first that matches counts."""


_ROOT = re.compile(r"\w+")


def from_chat(error: InfermeshError) -> InvalidArgument:
    """An error of a chat's body, in the words of a response's. Other fields that its message quotes are renamed too."""
    message = error.message
    for path in error.fields:
        message = message.replace(f"'{path}'", f"'{_of_response(path)}'")
    for chat, response in CHAT_NAMES.items():
        message = message.replace(f"'{chat}'", f"'{response}'")
    fields = {_of_response(path): description for path, description in error.fields.items()}
    return InvalidArgument(message, reason=error.reason, fields=fields)


def _of_response(path: str) -> str:
    """A chat's path in a response: messages are not numbered as items are, and tools have no `function`."""
    root = _ROOT.match(path)
    if root is None or root[0] not in CHAT_NAMES:
        return path
    return path.replace(".function.", ".", 1) if root[0] == "tools" else CHAT_NAMES[root[0]]
