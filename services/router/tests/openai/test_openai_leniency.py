"""What real clients send is taken: hints without effect are named, and other spellings mean what they say."""

import json
from typing import Any

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.parse import parse_body
from infermesh_router.openai.schema.chat import ChatRequest
from infermesh_router.openai.schema.hints import list_hints
from infermesh_router.requests.call import NO_LIMIT
from infermesh_router.requests.kinds.generate import read_generate
from infermesh_router.testing.dialects.openai import USER, post
from infermesh_router.testing.dialects.openai_bodies import chat, completion, parse_chat
from infermesh_router.testing.router import StartRouter, StartWorker, finished, started

HINTS: list[tuple[str, dict[str, Any]]] = [
    ("metadata", {"metadata": {"trace": "1"}}),
    ("store", {"store": True}),
    ("service_tier", {"service_tier": "flex"}),
    ("prompt_cache_retention", {"prompt_cache_retention": "24h"}),
    ("spaces_between_special_tokens", {"spaces_between_special_tokens": False}),
    ("guided_decoding_backend", {"guided_decoding_backend": "outlines"}),
    ("messages[].cache_control", {"messages": [USER | {"cache_control": {"type": "ephemeral"}}] * 2}),
    ("messages[].annotations", {"messages": [USER, {"role": "assistant", "content": "a", "annotations": [{}]}]}),
    (
        "messages[].content[].cache_control",
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {}}]}]},
    ),
]


@pytest.mark.parametrize(("path", "fields"), HINTS, ids=[path for path, _ in HINTS])
def test_a_hint_without_effect_is_named(path: str, fields: dict[str, Any]) -> None:
    assert list_hints(parse_chat(**fields)) == (path,)


def test_a_hint_that_asks_for_what_is_done_anyway_is_not_named() -> None:
    asked = {"metadata": {}, "store": False, "service_tier": "auto", "spaces_between_special_tokens": True}
    assert list_hints(parse_chat(**asked, messages=[USER | {"annotations": [], "cache_control": None}])) == ()


def test_an_answer_of_the_assistant_may_be_null() -> None:
    (_, answer) = chat(messages=[USER, {"role": "assistant", "content": None}]).chat.messages
    assert answer == pb.ChatMessage(role="assistant")


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_earlier_reasoning_is_passed_on(name: str) -> None:
    (message,) = chat(messages=[{"role": "assistant", "content": "4", name: "2 + 2"}]).chat.messages
    assert message.reasoning_content == "2 + 2"


def test_minus_one_is_no_limit() -> None:
    assert chat(max_tokens=-1).stop.max_tokens == NO_LIMIT
    (request,) = completion(max_tokens=-1)
    assert request.stop.max_tokens == NO_LIMIT
    assert read_generate(request.SerializeToString()).wanted.max_tokens == 0


def test_a_byte_order_mark_is_skipped() -> None:
    body = "\N{BYTE ORDER MARK}" + json.dumps({"model": "m", "messages": [USER]})
    assert parse_body(ChatRequest, body.encode(), ignore_unknown=False).request.model == "m"


async def test_what_the_model_ignored_is_named_beside_what_the_router_did(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    async def ignore(request: pb.GenerateRequest, _context: Any) -> Any:
        begun = started(request.model)
        begun.started.ignored_fields.extend(["chat.reasoning_effort", "chat.messages[].reasoning_content"])
        yield begun
        yield finished()

    body = {"model": "m", "messages": [USER], "store": True, "no_such_field": 1}
    _, headers = await post(await start_router(await start_worker(script=ignore)), "CreateChatCompletion", body)
    named = headers["x-infermesh-ignored-fields"].split(",")
    assert named == ["no_such_field", "store", "reasoning_effort", "messages[].reasoning_content"]


async def test_the_model_of_a_path_in_azures_form_counts(start_worker: StartWorker, start_router: StartRouter) -> None:
    router = await start_router(await start_worker(models=("org/m",)))
    for fields in ({}, {"model": "other"}):
        body = json.dumps({"messages": [USER], **fields}).encode()
        messages, _ = await post(
            router, "CreateChatCompletion", body, metadata=(("x-infermesh-deployment", "org%2Fm"),)
        )
        assert json.loads(messages[0].data)["model"] == "org/m"
