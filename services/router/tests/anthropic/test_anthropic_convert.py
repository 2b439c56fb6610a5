"""What bodies of /v1/messages become: the requests of a chat, with the messages where Anthropic has them."""

import json
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.anthropic.convert import convert_count, convert_messages
from infermesh_router.openai.bodies import BodyRules
from infermesh_router.openai.conversion import Converted
from infermesh_router.requests.bounds import Bounds
from infermesh_router.testing.dialects.anthropic import HI, body_message
from infermesh_runtime.errors import InvalidArgument

RULES = BodyRules(ignore_unknown=False, max_bytes=1 << 20, bounds=Bounds())
CALL = {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {"a": 1}}
RESULT = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "done"}


def text(content: str) -> dict[str, Any]:
    return {"type": "text", "text": content}


def converted(**fields: Any) -> Converted:
    return convert_messages(body_message(**fields), RULES)


def request(**fields: Any) -> pb.GenerateRequest:
    (call,) = converted(**fields).job.calls
    return pb.GenerateRequest.FromString(call.body)


def turns(*messages: dict[str, Any], **fields: Any) -> list[tuple[str, str]]:
    chat = request(messages=list(messages), **fields).chat
    return [(each.role, "|".join(each.content_parts) or each.content) for each in chat.messages]


def test_the_fields_of_sampling() -> None:
    made = request(temperature=0.5, top_p=0.9, top_k=3, stop_sequences=["a", "b"], metadata={"user_id": "u"}, seed=1)
    assert made.sampling.temperature == 0.5
    assert (round(made.sampling.top_p, 3), made.sampling.top_k) == (0.9, 3)
    assert list(made.stop.strings) == ["a", "b"]
    assert (made.stop.max_tokens, made.client_id, made.seed) == (9, "u", 1)


def test_the_system_prompt_comes_first() -> None:
    assert turns(HI, system="Be brief.") == [("system", "Be brief."), ("user", "hi")]
    blocks = [text("a") | {"cache_control": {"type": "ephemeral"}}, text("b")]
    assert turns(HI, system=blocks)[0] == ("system", "a|b")
    assert turns(HI, system=[text("a")])[0] == ("system", "a")


def test_turns_of_one_role_are_joined() -> None:
    assert turns(HI, HI, {"role": "system", "content": "s"}) == [("user", "hi|hi"), ("system", "s")]


def test_calls_and_results_in_their_order() -> None:
    failed = RESULT | {"content": [text("no file"), text("x")], "is_error": True}
    told = RESULT | {"content": "error: told already", "is_error": True}
    answer = {"role": "assistant", "content": [text("Let me see."), CALL]}
    results = {"role": "user", "content": [RESULT, failed, told, RESULT | {"content": None}, text("Go on.")]}
    chat = request(messages=[HI, answer, results]).chat
    assert [each.role for each in chat.messages] == ["user", "assistant", "tool", "tool", "tool", "tool", "user"]
    (call,) = chat.messages[1].tool_calls
    assert (call.id, call.name, call.arguments_json) == ("toolu_1", "f", '{"a":1}')
    assert [each.content for each in chat.messages[2:]] == [
        "done",
        "Error: no file\nx",
        "error: told already",
        "",
        "Go on.",
    ]
    assert chat.messages[2].tool_call_id == "toolu_1"


def test_thinking_is_accepted_back() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "whatever"}
    hidden = {"type": "redacted_thinking", "data": "x"}
    made = converted(messages=[HI, {"role": "assistant", "content": [thought, hidden, text("a")]}, HI])
    chat = pb.GenerateRequest.FromString(made.job.calls[0].body).chat
    assert (chat.messages[1].reasoning_content, chat.messages[1].content) == ("hm", "a")
    assert made.ignored == ("messages[].content[].redacted_thinking",)


@pytest.mark.parametrize(("thinking", "enabled"), [("enabled", True), ("disabled", False), ("adaptive", None)])
def test_thinking_is_asked_of_the_template(thinking: str, enabled: bool | None) -> None:
    chat = request(thinking={"type": thinking}).chat
    assert (chat.enable_thinking if chat.HasField("enable_thinking") else None) == enabled


def test_hints_are_named() -> None:
    made = converted(
        thinking={"type": "enabled", "budget_tokens": 1024},
        service_tier="standard_only",
        context_management={},
        inference_geo="eu",
        cache_control={"type": "ephemeral"},
    )
    assert set(made.ignored) == {"thinking.budget_tokens", "service_tier", "inference_geo"}


def test_a_last_answer_is_continued() -> None:
    begun = request(messages=[HI, {"role": "assistant", "content": "Well"}]).chat
    assert begun.continue_final_message
    empty = request(messages=[HI, {"role": "assistant", "content": ""}]).chat
    assert not empty.continue_final_message
    assert len(empty.messages) == 1


def test_a_schema_and_effort() -> None:
    schema = {"type": "object", "properties": {}}
    for fields in (
        {"output_config": {"effort": "low", "format": {"type": "json_schema", "schema": schema}}},
        {"output_format": {"type": "json_schema", "schema": schema}},
    ):
        assert json.loads(request(**fields).format.json_schema) == schema
    assert request(output_config={"effort": "low"}).chat.reasoning_effort == "low"


def test_a_count_has_the_prompt_of_the_message() -> None:
    fields: dict[str, Any] = {"system": "s", "messages": [HI, {"role": "assistant", "content": "Well"}]}
    body = {"model": "m", **fields}
    (call,) = convert_count(HttpBody(data=json.dumps(body).encode()).SerializeToString(), RULES).job.calls
    assert pb.TokenizeRequest.FromString(call.body).chat == request(**fields).chat


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"max_tokens": None}, "'max_tokens' must be"),
        ({"max_tokens": 0}, "'max_tokens' must be greater than or equal to 1, not 0"),
        ({"messages": []}, "'messages' must not be empty"),
        ({"messages": [{"role": "user", "content": [{"type": "document", "source": {}}]}]}, "[0].type' 'document' is"),
        ({"messages": [{"role": "user", "content": [CALL]}]}, "'messages[0]' has a block of type 'tool_use'"),
        ({"messages": [HI, {"role": "assistant", "content": [RESULT]}]}, "'messages[1]' has a block of type 'tool_r"),
        ({"messages": [HI, {"role": "assistant", "content": [CALL]}]}, "'messages[1]' ends with a 'tool_use'"),
        ({"tools": [{"type": "bash_20250124", "name": "bash"}]}, "'tools[0].type' 'bash_20250124' is a tool of"),
        ({"tool_choice": {"type": "any"}}, "'tool_choice' needs 'tools'"),
        ({"thread": {"type": "create"}}, "'thread' is not supported"),
        ({"container": "c"}, "'container' 'c' is not supported"),
        ({"mcp_servers": [{"type": "url"}]}, "'mcp_servers' is not supported"),
        ({"nonsense": 1}, "'nonsense' is not a known field"),
        ({"stop_sequences": [""]}, "'stop_sequences[0]' must not be empty"),
    ],
)
def test_what_is_refused_is_named(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        converted(**fields)
    assert told in refused.value.message


def test_conversations_of_too_many_parts_are_refused_early() -> None:
    rules = BodyRules(ignore_unknown=False, max_bytes=1 << 20, bounds=Bounds(parts=3))
    nested = RESULT | {"content": [text("a")] * 3}
    with pytest.raises(InvalidArgument, match="has 4 parts"):
        convert_messages(body_message(messages=[{"role": "user", "content": [nested]}]), rules)
