"""The answers that the recording server gives: one fixed answer in the shape of each API, so that clients go on."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

Body = dict[str, Any]

SAID = '{"name": "red", "warm": true}'
"""Every answer, because some callers ask for JSON."""
ARGUMENTS: Body = {"city": "Oslo", "name": "red", "warm": True}
"""Calls of tools have those of them that the tool takes."""
USAGE: Body = {"prompt_tokens": 9, "completion_tokens": 3, "total_tokens": 12}


def chat(body: Body) -> Body:
    """An answer of /v1/chat/completions. It calls the first tool once, if there is one."""
    message: Body = {"role": "assistant", "content": SAID}
    reason = "stop"
    if body.get("tools") and not any(each["role"] == "tool" for each in body["messages"]):
        tool = body["tools"][0]["function"]
        function = {"name": tool["name"], "arguments": json.dumps(_arguments(tool["parameters"]))}
        message = {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": function}],
        }
        reason = "tool_calls"
    choice = {"index": 0, "message": message, "finish_reason": reason, "logprobs": None}
    return {**_head(body, "chat.completion"), "choices": [choice], "usage": USAGE}


def chat_stream(body: Body) -> bytes:
    """The same in one chunk."""
    whole = chat(body)
    choice = dict(whole["choices"][0])
    delta = dict(choice.pop("message"))
    if calls := delta.get("tool_calls"):
        delta["tool_calls"] = [{"index": 0, **call} for call in calls]
    chunk = {**_head(body, "chat.completion.chunk"), "choices": [{**choice, "delta": delta}]}
    usage = {**_head(body, "chat.completion.chunk"), "choices": [], "usage": USAGE}
    return _events([chunk, usage]) + b"data: [DONE]\n\n"


def completion(body: Body) -> Body:
    """An answer of /v1/completions; with `logprobs` for as many tokens as a prompt of token ids has, and one more."""
    prompts = body["prompt"] if isinstance(body["prompt"], list) and isinstance(body["prompt"][0], list) else [[1]]
    choices = [_completion_choice(index, prompt, body) for index, prompt in enumerate(prompts)]
    return {**_head(body, "text_completion"), "choices": choices, "usage": USAGE}


def _completion_choice(index: int, prompt: list[int], body: Body) -> Body:
    count = len(prompt) + 1
    logprobs = {
        "tokens": ["a"] * count,
        "token_logprobs": [None, *[-1.0] * (count - 1)],
        "top_logprobs": [None, *[{"a": -1.0}] * (count - 1)],
        "text_offset": list(range(count)),
    }
    scored = logprobs if body.get("logprobs") else None
    return {"index": index, "text": SAID, "finish_reason": "stop", "logprobs": scored}


def completion_stream(body: Body) -> bytes:
    """The same in one chunk."""
    return _events([completion(body)]) + b"data: [DONE]\n\n"


def response(body: Body) -> Body:
    """An answer of /v1/responses. It calls the first tool once, if there is one."""
    asked = body["input"]
    results = {"function_call_output"} & {item.get("type") for item in asked} if isinstance(asked, list) else set()
    content = {"type": "output_text", "text": SAID, "annotations": [], "logprobs": []}
    item: Body = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": [content]}
    if body.get("tools") and not results:
        tool = body["tools"][0]
        item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": tool["name"], "status": "completed"}
        item["arguments"] = json.dumps(_arguments(tool["parameters"]))
    return {
        "id": "resp_1",
        "object": "response",
        "created_at": 1,
        "status": "completed",
        "model": body["model"],
        "output": [item],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": {
            "input_tokens": 9,
            "output_tokens": 3,
            "total_tokens": 12,
            "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
            "output_tokens_details": {"reasoning_tokens": 0},
        },
    }


def response_stream(body: Body) -> bytes:
    """Its first and last event, and the item."""
    whole = response(body)
    begun: Body = {**whole, "status": "in_progress", "output": []}
    item: Body = whole["output"][0]
    events: list[Body] = [
        {"type": "response.created", "response": begun},
        {"type": "response.output_item.added", "output_index": 0, "item": {**item, "status": "in_progress"}},
        {"type": "response.output_item.done", "output_index": 0, "item": item},
        {"type": "response.completed", "response": whole},
    ]
    return _named_events({**event, "sequence_number": number} for number, event in enumerate(events))


def message(body: Body) -> Body:
    """An answer of /v1/messages. It calls the first tool once, if there is one."""
    content: Body = {"type": "text", "text": SAID}
    if body.get("tools") and len(body["messages"]) == 1:
        tool = body["tools"][0]
        content = {"type": "tool_use", "id": "toolu_1", "name": tool["name"]}
        content["input"] = _arguments(tool["input_schema"])
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": body["model"],
        "content": [content],
        "stop_reason": "tool_use" if content["type"] == "tool_use" else "end_turn",
        "stop_sequence": None,
        "usage": {"input_tokens": 9, "output_tokens": 3},
    }


def message_stream(body: Body) -> bytes:
    """The same as events."""
    whole = message(body)
    delta = {"stop_reason": "end_turn", "stop_sequence": None}
    events: list[Body] = [
        {"type": "message_start", "message": {**whole, "content": [], "stop_reason": None}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": SAID}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": delta, "usage": {"output_tokens": 3}},
        {"type": "message_stop"},
    ]
    return _named_events(events)


def ollama(body: Body, *, is_chat: bool) -> Body:
    """The last part of an answer of /api/chat or /api/generate, which is also a whole answer."""
    said: Body = {"message": {"role": "assistant", "content": SAID}} if is_chat else {"response": SAID}
    end: Body = {"created_at": "2026-01-01T00:00:00Z", "done": True, "done_reason": "stop"}
    return {"model": body["model"], **end, **said}


def _arguments(schema: Body) -> Body:
    return {name: value for name, value in ARGUMENTS.items() if name in schema["properties"]}


def _head(body: Body, kind: str) -> Body:
    return {"id": "answer-1", "object": kind, "created": 1, "model": body["model"]}


def _events(events: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)


def _named_events(events: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(
        b"event: " + event["type"].encode() + b"\ndata: " + json.dumps(event).encode() + b"\n\n" for event in events
    )
