"""Answers of /v1/responses over real servers: whole, and as events."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.answers.parsed import Answer, Call
from infermesh_router.responses.output import Output
from infermesh_router.testing.dialects.openai import post
from infermesh_router.testing.router import RunningRouter, StartRouter, StartWorker, delta, finished, started
from infermesh_runtime.answer_parsing.parts import CallArguments, CallBegins, CallEnds, Part, Reasoning, Text
from infermesh_runtime.errors import InfermeshError, InvalidArgument, Unavailable
from infermesh_runtime.rpc.context import RpcContext

EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)
VOLATILE = ("id", "created_at", "completed_at")


async def create(router: RunningRouter, **fields: Any) -> dict[str, Any]:
    (message,), _ = await post(router, "CreateResponse", {"model": "m", "input": "hi"} | fields)
    response: dict[str, Any] = json.loads(message.data)
    return response


def parse(data: bytes) -> list[dict[str, Any]]:
    """The events, each as OpenAI's own types accept it, numbered from 0."""
    found = []
    for block in data.decode().removesuffix("\n\n").split("\n\n"):
        if block == "data: [DONE]":
            break
        name, text = block.split("\n")
        event = json.loads(text.removeprefix("data: "))
        assert name == f"event: {event['type']}"
        EVENT.validate_python(event)
        found.append(event)
    assert [event["sequence_number"] for event in found] == list(range(len(found)))
    return found


async def stream(router: RunningRouter, **fields: Any) -> list[dict[str, Any]]:
    messages, _ = await post(router, "CreateResponse", {"model": "m", "input": "hi", "stream": True} | fields)
    assert messages[0].content_type.startswith("text/event-stream")
    return parse(b"".join(message.data for message in messages))


def kinds(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"].removeprefix("response.") for event in events]


def stable(response: dict[str, Any]) -> dict[str, Any]:
    """The response without what differs from one to the next."""
    items = [{name: value for name, value in item.items() if name != "id"} for item in response["output"]]
    return {name: value for name, value in response.items() if name not in VOLATILE} | {"output": items}


async def think(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    begun = started(request.model)
    begun.started.answer_style.reasoning = "think"
    yield begun
    for text in ("<think>", "let ", "me see</think>", "Yes", "."):
        yield delta(text)
    yield finished()


async def test_a_stream_tells_what_the_whole_response_has(start_worker: StartWorker, start_router: StartRouter) -> None:
    router = await start_router(await start_worker(script=think))
    events = await stream(router)
    text = ["output_item.added", "content_part.added"]
    assert kinds(events)[:4] == ["created", "in_progress", *text]
    order = [kind for at, kind in enumerate(kinds(events)) if at < 1 or kind != kinds(events)[at - 1]]
    assert order == [
        "created",
        "in_progress",
        *text,
        *("reasoning_text.delta", "reasoning_text.done", "content_part.done", "output_item.done"),
        *text,
        *("output_text.delta", "output_text.done", "content_part.done", "output_item.done"),
        "completed",
    ]
    final = events[-1]["response"]
    assert stable(final) == stable(await create(router))
    thought, message = final["output"]
    assert thought["content"] == [{"type": "reasoning_text", "text": "let me see"}]
    assert message["content"][0]["text"] == "Yes."
    assert "".join(event["delta"] for event in events if event["type"] == "response.output_text.delta") == "Yes."
    assert [event["item"]["id"] for event in events if event["type"].endswith("item.done")] == [
        thought["id"],
        message["id"],
    ]
    Response.model_validate(final)
    assert final["usage"]["total_tokens"] == 5
    assert final["usage"]["output_tokens_details"]["reasoning_tokens"] == 3


async def test_a_response_that_reached_its_limit_is_incomplete(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    async def speak(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        yield delta("He")
        yield finished(reason=pb.FINISH_REASON_LENGTH)

    router = await start_router(await start_worker(script=speak))
    events = await stream(router, max_output_tokens=1)
    response = await create(router, max_output_tokens=1)
    assert kinds(events)[-1] == "incomplete"
    for each in (events[-1]["response"], response):
        assert (each["status"], each["incomplete_details"]) == ("incomplete", {"reason": "max_output_tokens"})
        assert each["output"][0]["status"] == "incomplete"


async def test_an_error_in_the_middle(start_worker: StartWorker, start_router: StartRouter) -> None:
    async def fail(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        yield delta("He")
        raise Unavailable("It broke.")

    router = await start_router(await start_worker(script=fail), max_failovers=0)
    events = await stream(router)
    assert kinds(events)[-3:] == ["output_item.done", "error", "failed"]
    assert events[-2]["message"]
    failed = events[-1]["response"]
    assert (failed["status"], failed["error"]["code"]) == ("failed", "server_error")
    assert failed["output"][0]["content"][0]["text"] == "He"
    with pytest.raises(InfermeshError):
        await create(router)


async def test_a_workers_error_names_a_responses_field(start_worker: StartWorker, start_router: StartRouter) -> None:
    async def refuse(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        raise InvalidArgument("stop.max_tokens is too large.", fields={"stop.max_tokens": "is too large"})
        yield started(request.model)

    router = await start_router(await start_worker(script=refuse))
    with pytest.raises(InvalidArgument, match="max_output_tokens is too large") as caught:
        await create(router)
    assert list(caught.value.fields) == ["max_output_tokens"]


async def test_log_probabilities_are_told_only_if_they_are_included(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    async def speak(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        for text in ("He", "llo"):
            tokens = [pb.TokenLogprob(token_id=1, token=text.encode(), logprob=-0.5)]
            yield delta(text, logprobs=tokens if request.HasField("logprobs") else ())
        yield finished()

    router = await start_router(await start_worker(script=speak))
    included = {"include": ["message.output_text.logprobs"]}
    events = await stream(router, **included)
    told = [event["logprobs"][0]["token"] for event in events if event["type"] == "response.output_text.delta"]
    assert told == ["He", "llo"]
    for response in (events[-1]["response"], await create(router, **included)):
        assert [token["token"] for token in response["output"][0]["content"][0]["logprobs"]] == ["He", "llo"]
    assert (await create(router))["output"][0]["content"][0]["logprobs"] == []


async def test_an_empty_answer_is_an_empty_message(start_worker: StartWorker, start_router: StartRouter) -> None:
    async def speak(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        yield finished()

    (item,) = (await stream(await start_router(await start_worker(script=speak))))[-1]["response"]["output"]
    assert item["content"][0]["text"] == ""


async def test_the_request_is_repeated(start_worker: StartWorker, start_router: StartRouter) -> None:
    router = await start_router(await start_worker())
    schema = {"type": "object", "properties": {}}
    fields: dict[str, Any] = {
        "instructions": "be",
        "metadata": {"a": "b"},
        "max_output_tokens": 9,
        "temperature": 0.5,
        "top_logprobs": 0,
        "user": "u",
        "truncation": "auto",
        "text": {"format": {"type": "json_schema", "name": "n", "schema": schema, "strict": True}, "verbosity": "low"},
        "reasoning": {"effort": "low"},
    }
    response = await create(router, **fields)
    shown = {name: response[name] for name in fields}
    shown["text"]["format"].pop("description")
    shown["reasoning"].pop("summary")
    assert shown == fields


def test_calls_are_items() -> None:
    answer = Answer(calls=[Call("call_1", "f"), Call("call_2", "g")])
    parts: list[Part] = [
        Reasoning("hm"),
        Text("I look."),
        CallBegins(0, "f"),
        CallArguments(0, '{"a"'),
        CallArguments(0, ":1}"),
        CallEnds(0, True),
        CallBegins(1, "g"),
        CallArguments(1, "{"),
        CallEnds(1, False),
        Text("Done."),
    ]
    output = Output(logprobs=False)
    data = b"".join(output.take(part, answer) for part in parts) + output.finish("completed")
    events = parse(data)
    assert [item["type"] for item in output.items] == [
        *("reasoning", "message", "function_call", "function_call", "message")
    ]
    first, second = output.items[2:4]
    assert (first["call_id"], first["name"], first["arguments"], first["status"]) == (
        *("call_1", "f", '{"a":1}', "completed"),
    )
    assert (second["arguments"], second["status"]) == ("{", "incomplete")
    deltas = [event for event in events if event["type"] == "response.function_call_arguments.delta"]
    assert [(event["item_id"], event["delta"]) for event in deltas] == [
        (first["id"], '{"a"'),
        (first["id"], ":1}"),
        (second["id"], "{"),
    ]
    done = [event["output_index"] for event in events if event["type"] == "response.output_item.done"]
    assert done == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("parallel", [True, False])
async def test_tool_calls(start_worker: StartWorker, start_router: StartRouter, parallel: bool) -> None:
    async def call(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        begun = started(request.model)
        begun.started.answer_style.tool_format = "hermes"
        yield begun
        for name in "fg":
            for text in ("<tool_call>", f'{{"name": "{name}", "arg', 'uments": {"a": ', "1}}\n</tool_call>\n"):
                yield delta(text)
        yield finished()

    router = await start_router(await start_worker(script=call))
    tools = [{"type": "function", "name": name, "parameters": {"type": "object"}} for name in "fg"]
    events = await stream(router, tools=tools, parallel_tool_calls=parallel)
    final = events[-1]["response"]
    assert [(item["name"], json.loads(item["arguments"])) for item in final["output"]] == [
        (name, {"a": 1}) for name in ("fg" if parallel else "f")
    ]
    assert final["status"] == "completed"
    assert final["parallel_tool_calls"] is parallel
    assert [tool["name"] for tool in final["tools"]] == ["f", "g"]
    whole = await create(router, tools=tools, parallel_tool_calls=parallel)
    for response in (final, whole):
        for item in response["output"]:
            assert item.pop("call_id").startswith("call_")
    assert stable(final) == stable(whole)


async def test_a_large_body_is_read_in_another_process(start_worker: StartWorker, start_router: StartRouter) -> None:
    worker = await start_worker()
    router = await start_router(worker)
    long = "x" * 200_000
    assert (await create(router, input=[{"role": "user", "content": long}]))["status"] == "completed"
    assert worker.requests[0].chat.messages[0].content == long


async def test_a_body_that_is_no_json(start_worker: StartWorker, start_router: StartRouter) -> None:
    router = await start_router(await start_worker())
    with pytest.raises(InfermeshError, match="JSON"):
        await post(router, "CreateResponse", HttpBody(data=b"{").data)
