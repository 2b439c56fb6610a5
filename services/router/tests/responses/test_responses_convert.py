"""Bodies of /v1/responses become the requests of chats; what cannot be honoured is refused by name."""

import json
from typing import Any

import orjson
import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.conversion import convert_chat
from infermesh_router.responses.convert import Past
from infermesh_router.responses.told import References

from .conversion import RULES, convert, refused, request_of

THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]}
SAID = {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed"}
CALL = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": "f", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "42"}
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}

NAMED = {"name": "n", "schema": SCHEMA, "strict": True}
CHAT_FORMAT = {"type": "json_schema", "json_schema": NAMED}
TOOL = {"type": "function", "name": "f", "description": "d", "parameters": SCHEMA, "strict": True}
CHAT_TOOL = {"type": "function", "function": {name: TOOL[name] for name in TOOL if name != "type"}}
CHOICE = {"type": "function", "name": "f"}
CHAT_CHOICE = {"type": "function", "function": {"name": "f"}}
CHAT_ALLOWED = {"mode": "auto", "tools": [CHAT_CHOICE]}
IMAGE = {"type": "input_image", "image_url": "x"}


def output_text(text: str) -> list[dict[str, Any]]:
    return [{"type": "output_text", "text": text, "annotations": [], "logprobs": []}]


def as_chat(body: dict[str, Any]) -> pb.GenerateRequest:
    """What the worker is asked for a body of /v1/chat/completions."""
    message = HttpBody(data=json.dumps({"model": "m"} | body).encode()).SerializeToString()
    (call,) = convert_chat(message, RULES).job.calls
    return pb.GenerateRequest.FromString(call.body)


@pytest.mark.parametrize(
    ("items", "messages"),
    [
        ("hi", [("user", "hi")]),
        ([{"role": "user", "content": "hi"}], [("user", "hi")]),
        ([{"type": "message", "role": "developer", "content": "be"}], [("developer", "be")]),
        ([{"role": "user", "content": [{"type": "input_text", "text": "hi"}]}], [("user", "hi")]),
        ([{**SAID, "content": output_text("yes")}], [("assistant", "yes")]),
        ([{"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]}], [("assistant", "no")]),
        ([RESULT | {"output": [{"type": "input_text", "text": "4"}]}], [("tool", "4")]),
    ],
)
def test_items_are_messages(items: Any, messages: list[tuple[str, str]]) -> None:
    made = request_of({"input": items}).chat.messages
    assert [(message.role, message.content) for message in made] == messages


def test_a_turn_of_the_assistant_is_one_message() -> None:
    items = [THOUGHT, {**SAID, "content": output_text("I look.")}, CALL, CALL | {"call_id": "call_2"}, RESULT, THOUGHT]
    first, result, second = request_of({"input": items}).chat.messages
    assert (first.reasoning_content, first.content) == ("Hm.", "I look.")
    assert [call.id for call in first.tool_calls] == ["call_1", "call_2"]
    assert (result.role, result.tool_call_id, result.content) == ("tool", "call_1", "42")
    assert (second.role, second.reasoning_content) == ("assistant", "Hm.")


def test_parts_stay_parts() -> None:
    parts = [{"type": "input_text", "text": "a"}, {"type": "input_text", "text": "b"}]
    (message,) = request_of({"input": [{"role": "user", "content": parts}]}).chat.messages
    assert list(message.content_parts) == ["a", "b"]


@pytest.mark.parametrize(
    ("fields", "same"),
    [
        ({"max_output_tokens": 7}, {"max_completion_tokens": 7}),
        ({"temperature": 0.5, "top_p": 0.9, "seed": 3}, {"temperature": 0.5, "top_p": 0.9, "seed": 3}),
        ({"text": {"format": {"type": "text"}}}, {}),
        ({"text": {"format": {"type": "json_object"}}}, {"response_format": {"type": "json_object"}}),
        ({"text": {"format": {"type": "json_schema", **NAMED}}}, {"response_format": CHAT_FORMAT}),
        ({"text": {"verbosity": "low"}}, {"verbosity": "low"}),
        ({"reasoning": {"effort": "high", "summary": "auto"}}, {"reasoning_effort": "high"}),
        ({"truncation": "auto"}, {"truncate_prompt_tokens": -1}),
        ({"truncation": "disabled"}, {}),
        ({"include": ["message.output_text.logprobs"], "top_logprobs": 2}, {"logprobs": True, "top_logprobs": 2}),
        ({"include": ["message.output_text.logprobs"]}, {"logprobs": True}),
        ({"include": [], "tools": [], "tool_choice": "auto", "parallel_tool_calls": True, "background": False}, {}),
        ({"prompt_cache_key": "k", "safety_identifier": "s"}, {"prompt_cache_key": "k", "safety_identifier": "s"}),
        ({"tools": [TOOL]}, {"tools": [CHAT_TOOL]}),
        ({"tools": [TOOL], "tool_choice": "required"}, {"tools": [CHAT_TOOL], "tool_choice": "required"}),
        ({"tools": [TOOL], "tool_choice": "none"}, {"tools": [CHAT_TOOL], "tool_choice": "none"}),
        ({"tools": [TOOL], "tool_choice": CHOICE}, {"tools": [CHAT_TOOL], "tool_choice": CHAT_CHOICE}),
        (
            {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [CHOICE]}},
            {"tools": [CHAT_TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": CHAT_ALLOWED}},
        ),
        ({"user": "u", "priority": 3, "device": "cpu"}, {"user": "u", "priority": 3, "device": "cpu"}),
    ],
)
def test_fields_mean_what_those_of_a_chat_do(fields: dict[str, Any], same: dict[str, Any]) -> None:
    instructed = request_of({"instructions": "be brief", "seed": 1} | fields)
    messages = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "hi"}]
    assert instructed == as_chat({"messages": messages, "seed": 1} | same)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tools": [{"type": "custom", "name": "c"}]}, "tools[0].type"),
        ({"tool_choice": {"type": "file_search"}}, "tool_choice.type"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL, TOOL]}, "tools[1].name"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "name": "g"}}, "tool_choice"),
        ({"tools": [{"type": "function"}]}, "tools[0].name"),
        ({"include": ["nonsense"]}, "include"),
        (
            {"input": [{"role": "user", "content": [IMAGE]}]},
            "input[0].content[0].image_url",
        ),
        ({"input": [{"type": "computer_call", "id": "c"}]}, "input[0].type"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": []}, "input"),
        ({"input": None}, "input"),
        ({"input": [{"type": "function_call", "name": "f", "arguments": "{}"}]}, "input[0].call_id"),
        ({"text": {"format": {"type": "xml"}}}, "text.format"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"temperature": 3}, "temperature"),
        ({"truncation": "middle"}, "truncation"),
        ({"stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    error = refused(fields)
    assert next(iter(error.fields)) == param
    assert f"'{param}'" in error.message


@pytest.mark.parametrize(
    ("fields", "ignored"),
    [
        ({"service_tier": "flex"}, ("service_tier",)),
        ({"service_tier": "auto", "include": ["file_search_call.results"]}, ()),
        ({"reasoning": {"summary": "auto"}}, ("reasoning.summary",)),
        ({"include": ["reasoning.encrypted_content"]}, ("include[]",)),
        ({"tools": [TOOL]}, ("tools[].strict",)),
        ({"tools": [TOOL], "tool_choice": "required"}, ()),
        ({"brand_new": 1}, ("brand_new",)),
    ],
)
def test_what_has_no_effect_is_named(fields: dict[str, Any], ignored: tuple[str, ...]) -> None:
    assert convert(fields).ignored == ignored


def test_errors_speak_of_a_responses_fields() -> None:
    forced = {"tools": [TOOL], "tool_choice": "required", "text": {"format": {"type": "json_object"}}}
    assert "'text.format'" in refused(forced).message


def test_names_of_a_workers_fields() -> None:
    names = convert({}).job.field_names
    assert names["stop.max_tokens"] == "max_output_tokens"
    assert names["format"] == "text.format"
    assert names["chat"] == "input"


def test_what_a_body_refers_to_comes_before_its_items() -> None:
    body = {"previous_response_id": "resp_1", "input": [{"type": "item_reference", "id": "msg_9"}, {"id": "msg_8"}]}
    unready = convert(body)
    assert unready.extra == References("resp_1", ("msg_9", "msg_8"))
    assert unready.job.calls == ()
    old, nine, eight = ({"type": "message", "role": "user", "id": name, "content": name} for name in "one")
    past = Past((orjson.dumps(old),), (orjson.dumps(nine), orjson.dumps(eight)))
    assert [message.content for message in request_of(body, past).chat.messages] == ["o", "n", "e"]
    kept = convert(body, past).extra
    assert [item.id for item in kept.items] == ["n", "e"]


def test_kept_items_have_ids_and_parts() -> None:
    (kept,) = convert({}).extra.items
    item = orjson.loads(kept.body)
    assert item["id"] == kept.id
    assert kept.id.startswith("msg_")
    assert (item["type"], item["role"], item["status"]) == ("message", "user", "completed")
    assert item["content"] == [{"type": "input_text", "text": "hi"}]
    assert convert({"store": False}).extra.items == ()
