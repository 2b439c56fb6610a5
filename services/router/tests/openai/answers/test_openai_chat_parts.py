"""Answers of models that reason and call tools, as OpenAI's chat tells them: whole and in streams."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.testing.dialects.openai import chat, events
from infermesh_router.testing.dialects.openai_bodies import TOOL
from infermesh_router.testing.router import RunningRouter, StartRouter, StartWorker, delta, finished, started
from infermesh_runtime.rpc.context import RpcContext

STYLE = pb.AnswerStyle(tool_format="hermes", reasoning="think", reasoning_opened=True)
PIECES = (
    "so",
    "me",
    "</think>",
    "Well.",
    '<tool_call>{"name": "f", "argu',
    'ments": {"a": ',
    "1}}</tool_call>",
    '<tool_call>{"name": "f", "arguments": {}}</tool_call>',
)
ARGUMENTS = ['{"a": 1}', "{}"]
USAGE = {"reasoning_tokens": 2, "accepted_prediction_tokens": 0, "rejected_prediction_tokens": 0}


async def speak(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    """Reasons, says a word and calls `f` twice, in every choice; a token a piece."""
    begun = started(request.model)
    begun.started.answer_style.CopyFrom(STYLE)
    yield begun
    for choice in range(request.n or 1):
        for index, piece in enumerate(PIECES):
            wanted = [pb.TokenLogprob(token_id=index, logprob=-1.0, token=piece.encode())]
            event = delta(piece, choice, wanted if request.HasField("logprobs") else [])
            del event.delta.token_ids[:]
            event.delta.token_ids.append(index)
            yield event
        end = finished(choice)
        if request.stop.max_tokens:
            end.finished.finish_reason = pb.FINISH_REASON_LENGTH
        yield end


@pytest.fixture
async def router(start_worker: StartWorker, start_router: StartRouter) -> RunningRouter:
    return await start_router(await start_worker(script=speak))


async def whole(router: RunningRouter, **fields: Any) -> dict[str, Any]:
    messages, _ = await chat(router, **fields)
    ChatCompletion.model_validate_json(messages[0].data)
    body: dict[str, Any] = json.loads(messages[0].data)
    return body


async def stream(router: RunningRouter, **fields: Any) -> list[dict[str, Any]]:
    """The chunks. Each is valid to the SDK."""
    messages, _ = await chat(router, stream=True, **fields)
    *chunks, done = events(messages)
    assert done == "[DONE]"
    for chunk in chunks:
        ChatCompletionChunk.model_validate(chunk)
    return chunks


def choices_of(chunks: list[dict[str, Any]], index: int = 0) -> list[dict[str, Any]]:
    return [choice for chunk in chunks for choice in chunk["choices"] if choice["index"] == index]


def calls_in(choices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [call for choice in choices for call in choice["delta"].get("tool_calls", ())]


async def test_a_whole_answer(router: RunningRouter) -> None:
    body = await whole(router, tools=[TOOL])
    (choice,) = body["choices"]
    message = choice["message"]
    assert (choice["finish_reason"], message["content"]) == ("tool_calls", "Well.")
    assert (message["reasoning_content"], message["reasoning"]) == ("some", "some")
    assert [call["function"] for call in message["tool_calls"]] == [{"name": "f", "arguments": a} for a in ARGUMENTS]
    assert len({call["id"] for call in message["tool_calls"]}) == 2
    assert body["usage"]["completion_tokens_details"] == USAGE


async def test_the_content_is_null_where_there_are_only_calls(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    async def call(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        begun = started(request.model)
        begun.started.answer_style.tool_format = "hermes"
        yield begun
        yield delta(PIECES[-1])
        yield finished()

    router = await start_router(await start_worker(script=call))
    (choice,) = (await whole(router, tools=[TOOL]))["choices"]
    assert choice["message"]["content"] is None
    assert "reasoning_content" not in choice["message"]


async def test_a_stream(router: RunningRouter) -> None:
    chunks = await stream(router, tools=[TOOL], stream_options={"include_usage": True})
    choices = choices_of(chunks)
    assert choices[0]["delta"] == {"role": "assistant", "content": ""}
    assert [c["delta"]["reasoning_content"] for c in choices if "reasoning_content" in c["delta"]] == ["so", "me"]
    assert [c["delta"]["content"] for c in choices[1:] if "content" in c["delta"]] == ["Well."]
    begins = [call for call in calls_in(choices) if "id" in call]
    assert [(call["index"], call["type"], call["function"]) for call in begins] == [
        (index, "function", {"name": "f", "arguments": ""}) for index in range(2)
    ]
    for index, expected in enumerate(ARGUMENTS):
        pieces = [call["function"]["arguments"] for call in calls_in(choices) if call["index"] == index]
        assert "".join(pieces) == expected
        assert len(pieces) > 2 - index
    assert choices[-1] == {"index": 0, "delta": {}, "logprobs": None, "finish_reason": "tool_calls"}
    assert chunks[-1]["usage"]["completion_tokens_details"] == USAGE


async def test_every_choice_is_parsed_by_itself(router: RunningRouter) -> None:
    body = await whole(router, tools=[TOOL], n=2)
    calls = [call for choice in body["choices"] for call in choice["message"]["tool_calls"]]
    assert len({call["id"] for call in calls}) == 4
    assert body["usage"]["completion_tokens_details"]["reasoning_tokens"] == 4
    chunks = await stream(router, tools=[TOOL], n=2)
    for index in range(2):
        assert "".join(c["delta"].get("reasoning", "") for c in choices_of(chunks, index)) == "some"
        assert choices_of(chunks, index)[-1]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("streamed", [False, True])
async def test_every_token_is_told_once_and_in_order(router: RunningRouter, streamed: bool) -> None:
    fields: dict[str, Any] = {"tools": [TOOL], "logprobs": True, "return_token_ids": True}
    choices = choices_of(await stream(router, **fields)) if streamed else (await whole(router, **fields))["choices"]
    told = [token["token"] for c in choices if c["logprobs"] for token in c["logprobs"]["content"]]
    assert told == list(PIECES)
    assert [token for c in choices for token in c.get("token_ids", ())] == list(range(len(PIECES)))


async def test_one_call_where_no_more_are_wanted(router: RunningRouter) -> None:
    (choice,) = (await whole(router, tools=[TOOL], parallel_tool_calls=False))["choices"]
    assert [call["function"]["arguments"] for call in choice["message"]["tool_calls"]] == ARGUMENTS[:1]
    chunks = await stream(router, tools=[TOOL], parallel_tool_calls=False)
    assert {call["index"] for call in calls_in(choices_of(chunks))} == {0}


async def test_the_deprecated_form(router: RunningRouter) -> None:
    (choice,) = (await whole(router, functions=[TOOL["function"]]))["choices"]
    assert choice["finish_reason"] == "function_call"
    assert choice["message"]["function_call"] == {"name": "f", "arguments": ARGUMENTS[0]}
    assert "tool_calls" not in choice["message"]
    choices = choices_of(await stream(router, functions=[TOOL["function"]]))
    pieces = [c["delta"]["function_call"] for c in choices if "function_call" in c["delta"]]
    assert "".join(piece.get("name", "") for piece in pieces) == "f"
    assert "".join(piece["arguments"] for piece in pieces) == ARGUMENTS[0]
    assert choices[-1]["finish_reason"] == "function_call"


async def test_without_tools_only_the_reasoning_is_parsed(router: RunningRouter) -> None:
    (choice,) = (await whole(router))["choices"]
    assert choice["message"]["content"] == "".join(PIECES[3:])
    assert (choice["message"]["reasoning"], choice["finish_reason"]) == ("some", "stop")


async def test_a_limit_is_told_as_such(router: RunningRouter) -> None:
    (choice,) = (await whole(router, tools=[TOOL], max_tokens=8))["choices"]
    assert choice["finish_reason"] == "length"


async def test_the_usage_so_far_is_in_every_chunk(router: RunningRouter) -> None:
    options = {"include_usage": True, "continuous_usage_stats": True}
    chunks = await stream(router, tools=[TOOL], stream_options=options)
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks[:-1]]
    assert counts == sorted(counts)
    assert counts[-1] == len(PIECES)
