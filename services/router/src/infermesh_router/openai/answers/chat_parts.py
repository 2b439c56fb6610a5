"""Writes the parts of a parsed answer as OpenAI's chat does: deltas of a stream, and the message of a whole answer."""

from collections.abc import Sequence
from typing import Any

from infermesh_router.openai.answers.parsed import Answer
from infermesh_runtime.answer_parsing.parts import CallArguments, CallBegins, Part, Reasoning, Text


def part_delta(part: Part, call_ids: Sequence[str], *, functions: bool) -> dict[str, Any] | None:
    """The `delta` that tells a part; None if there is nothing to tell.

    `call_ids`: those of all calls so far. `functions`: calls are told in the deprecated form.
    """
    match part:
        case Text(text):
            return {"content": text}
        case Reasoning(text):
            return {"reasoning_content": text, "reasoning": text}
        case CallBegins(index, name):
            function = {"name": name, "arguments": ""}
            call = {"index": index, "id": call_ids[index], "type": "function", "function": function}
            return {"function_call": function} if functions else {"tool_calls": [call]}
        case CallArguments(index, text):
            function = {"arguments": text}
            return (
                {"function_call": function} if functions else {"tool_calls": [{"index": index, "function": function}]}
            )
    return None


def answer_message(answer: Answer, *, functions: bool) -> dict[str, Any]:
    """The message of a choice. Its content is null where calls are all there is."""
    message: dict[str, Any] = {
        "role": "assistant",
        "content": None if answer.calls and not answer.text else answer.text,
        "refusal": None,
    }
    if answer.reasoning:
        message |= {"reasoning_content": answer.reasoning, "reasoning": answer.reasoning}
    calls = [
        {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}
        for call in answer.calls
    ]
    if calls and functions:
        message["function_call"] = calls[0]["function"]
    elif calls:
        message["tool_calls"] = calls
    return message


def finish_reason(reason: str, *, functions: bool) -> str:
    """The reason in the form that the request came in."""
    return "function_call" if functions and reason == "tool_calls" else reason
