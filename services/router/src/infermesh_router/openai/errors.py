"""Makes OpenAI's error objects, and rewrites field names in schema and worker errors to OpenAI's."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from infermesh_runtime.error_types.openai import OPENAI_ERROR_TYPES, SERVER_ERROR
from infermesh_runtime.errors import InfermeshError, InvalidArgument, from_code

_NAMES = {
    "sampling.": "",
    "stop.strings": "stop",
    "stop.token_ids": "stop_token_ids",
    "stop.": "",
    "prompt_options.truncate_tokens": "truncate_prompt_tokens",
    "prompt_options.logprobs": "prompt_logprobs",
    "prompt_options.": "",
    "chat.template_kwargs_json": "chat_template_kwargs",
    "chat.": "",
    "chat": "messages",
    "text": "prompt",
    "token_ids": "prompt",
}
"""Prefix of a path in the gRPC contract → prefix in OpenAI's body; the first that matches counts."""

_ARGUMENTS = re.compile(r"(\.tool_calls\[\d+\])\.arguments_json$")

_WORDS = frozenset({"chat", "text", "prompt"})
"""Paths that a message may also have as words: there only those that begin a sentence about the field are paths."""
_OTHER_PATHS = re.compile(r"(?<![\w.'\"`])(?:sampling|stop|chat|prompt_options)(?:\.[a-z_]+(?:\[\d+\])?)+")
"""Paths of the gRPC contract that an error's message mentions beside those of its fields."""

_REASONS = {
    "extra_forbidden": "UNKNOWN_PARAMETER",
    "missing": "MISSING_REQUIRED_PARAMETER",
    "unsupported": "UNSUPPORTED_PARAMETER",
}
_MESSAGES = {
    "extra_forbidden": "is not a known field",
    "missing": "is required",
    "too_short": "must not be empty",
    "string_too_short": "must not be empty",
    "model_type": "must be an object",
    "dict_type": "must be an object",
}


def locate(problem: Mapping[str, Any]) -> list[str | int]:
    """The location of one of pydantic's `errors()`, without the tags of unions, which are in angle brackets.

    The name of an unknown field stays, whatever it looks like: a client chose it.
    """
    *parents, last = problem["loc"]
    kept = [part for part in parents if not _is_tag(part)]
    return kept if _is_tag(last) and problem["type"] != "extra_forbidden" else [*kept, last]


def format_path(location: Sequence[str | int]) -> str:
    """["messages", 0, "content"] → "messages[0].content"."""
    path = ""
    for part in location:
        if isinstance(part, int):
            path += f"[{part}]"
        else:
            path += f".{part}" if path else part
    return path


def from_validation(problems: Sequence[Mapping[str, Any]]) -> InvalidArgument:
    """The error for the problems of a body (pydantic's `errors()`). The first one gives the message."""
    described = {format_path(locate(problem)): _describe(problem) for problem in problems}
    path, description = next(iter(described.items()))
    reason = _REASONS.get(str(problems[0]["type"]))
    return InvalidArgument(f"'{path}' {description}.", reason=reason, fields=described)


def _is_tag(part: str | int) -> bool:
    return isinstance(part, str) and part.startswith("<")


def invalid(path: str, description: str, *, reason: str | None = None) -> InvalidArgument:
    """The error for one bad field."""
    return InvalidArgument(f"'{path}' {description}.", reason=reason, fields={path: description})


def rename_fields(error: InfermeshError, names: Mapping[str, str]) -> InfermeshError:
    """A worker's error with OpenAI's names of its fields. `names` holds those that depend on the request."""
    if not error.fields:
        return error
    paths = {path: rename_field(path, names) for path in error.fields}
    message = error.message
    for path, name in paths.items():
        before = r"(?:^|(?<=; ))" if path in _WORDS else r"(?<![\w.])"
        message = re.sub(rf"{before}{re.escape(path)}(?![\w.])", name, message)
    message = _OTHER_PATHS.sub(lambda found: rename_field(found[0], names), message)
    return from_code(
        error.code,
        message,
        reason=error.reason,
        metadata=error.metadata,
        fields={paths[path]: description for path, description in error.fields.items()},
        retry_after_s=error.retry_after_s,
    )


def rename_field(path: str, names: Mapping[str, str]) -> str:
    """ "sampling.temperature" → "temperature", "chat.messages[0].content" → "messages[0].content"."""
    path = _ARGUMENTS.sub(r"\1.function.arguments", path)
    for prefix, name in names.items():
        if path == prefix or path.startswith(f"{prefix}."):
            return name
        if path.startswith(f"{prefix}["):
            return name + path.removeprefix(prefix)
    for prefix, name in _NAMES.items():
        if prefix.endswith(".") and path.startswith(prefix):
            return name + path.removeprefix(prefix)
        if path == prefix or path.startswith((f"{prefix}.", f"{prefix}[")):
            return name + path.removeprefix(prefix)
    return path


def error_object(error: InfermeshError) -> dict[str, Any]:
    """The body of an error, {"error": {message, type, param, code}}, as Envoy makes it from a gRPC status."""
    return {
        "error": {
            "message": error.message,
            "type": OPENAI_ERROR_TYPES.get(error.code, SERVER_ERROR),
            "param": next(iter(error.fields), None),
            "code": error.reason.lower(),
        }
    }


def _describe(problem: Mapping[str, Any]) -> str:
    kind, message = str(problem["type"]), str(problem["msg"])
    if kind in _MESSAGES:
        return _MESSAGES[kind]
    subject, should, expected = _without_jargon(message).partition(" should ")
    if not should or " " in subject:
        return message
    if subject != "Input":  # as of "String should have at most 9 characters"
        return f"must {expected}"
    return f"must be {expected.removeprefix('be ')}{_show_input(problem.get('input'))}"


def _without_jargon(message: str) -> str:
    """ "List should have at most 1 item after validation, not 2" → "List should have at most 1 item, not 2"."""
    return message.replace(" after validation", "").removesuffix(", not more")


def _show_input(value: object) -> str:
    """What was sent instead, if it is short."""
    if isinstance(value, str | int | float | bool) and len(text := repr(value)) <= 40:
        return f", not {text}"
    return ""
