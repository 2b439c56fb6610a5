"""Answers of Ollama's API: lines of JSON or one body, with thinking, tool calls and figures."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.ollama.answers import OllamaAnswer
from infermesh_router.ollama.convert import AskedOf
from infermesh_router.openai.answers.events import BodySink, EventsSink
from infermesh_router.testing.dialects.messages import Written
from infermesh_router.testing.dialects.ollama import chat, generate
from infermesh_router.testing.router import RunningRouter, StartRouter, StartWorker, delta, finished, started
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument, ModelNotFound
from infermesh_runtime.rpc.context import RpcContext

TOOLS = {"f": {"type": "object", "properties": {"a": {"type": "integer"}}}}
STARTED = pb.Started(
    loading_ms=7, answer_style=pb.AnswerStyle(tool_format="hermes", reasoning="think", reasoning_opened=True)
)
PIECES = ("so", "</think>Well.", '<tool_call>{"name": "f", "argu', 'ments": {"a": 1}}</tool_call>')
FINISHED = pb.Finished(
    finish_reason=pb.FINISH_REASON_STOP,
    usage=pb.Usage(prompt_tokens=5, completion_tokens=9, cached_tokens=2),
    timings=pb.Timings(prompt_tokens=3, prompt_ms=1.5, completion_tokens=9, completion_ms=2.5),
)
CALL = {"function": {"index": 0, "name": "f", "arguments": {"a": 1}}}


def lines(written: Written) -> list[Any]:
    """The JSON of each line that was written."""
    return [json.loads(line) for line in written.data.splitlines()]


async def no_headers(_started: pb.Started | None) -> None:
    pass


def new_answer(*, is_chat: bool = True) -> OllamaAnswer:
    asked = AskedOf(model="m:latest", is_chat=is_chat, keep_alive_s=None)
    return OllamaAnswer(asked, since_s=time.perf_counter())


async def run(sink: EventsSink | BodySink, pieces: tuple[str, ...] = PIECES, end: pb.Finished = FINISHED) -> None:
    await sink.begin(0, STARTED)
    for piece in pieces:
        await sink.take_delta(0, pb.Delta(text=piece))
    await sink.take_finished(0, end)


def without_time(line: dict[str, Any]) -> dict[str, Any]:
    for call in line.get("message", {}).get("tool_calls", ()):
        assert call.pop("id").startswith("call_")
    return {name: value for name, value in line.items() if name not in ("created_at", "total_duration")}


async def test_a_stream_has_thinking_text_and_calls() -> None:
    written = Written()
    sink = EventsSink(new_answer(), TOOLS, no_headers, written)
    await run(sink)
    await sink.end()
    said = {"role": "assistant", "content": ""}
    assert [without_time(line) for line in lines(written)] == [
        {"model": "m:latest", "message": said | {"thinking": "so"}, "done": False},
        {"model": "m:latest", "message": said | {"content": "Well."}, "done": False},
        {"model": "m:latest", "message": said | {"tool_calls": [CALL]}, "done": False},
        {
            "model": "m:latest",
            "message": said,
            "done": True,
            "done_reason": "stop",
            "load_duration": 7_000_000,
            "prompt_eval_count": 5,
            "prompt_eval_duration": 1_500_000,
            "eval_count": 9,
            "eval_duration": 2_500_000,
        },
    ]
    assert [message.content_type for message in written.messages] == ["application/x-ndjson", "", "", ""]


async def test_a_whole_answer_has_them_too() -> None:
    sink = BodySink(new_answer().body, TOOLS, no_headers)
    await run(sink)
    body = json.loads(sink.body())
    assert body["total_duration"] > 0
    message = without_time(body)["message"]
    assert message == {"role": "assistant", "content": "Well.", "thinking": "so", "tool_calls": [CALL]}


async def test_a_call_that_was_cut_off_is_left_out() -> None:
    end = pb.Finished(finish_reason=pb.FINISH_REASON_LENGTH)
    sink, written = BodySink(new_answer().body, TOOLS, no_headers), Written()
    await run(sink, (*PIECES[:3], 'ments": {"a": '), end)
    body = json.loads(sink.body())
    assert "tool_calls" not in body["message"]
    assert body["done_reason"] == "length"
    stream = EventsSink(new_answer(), TOOLS, no_headers, written)
    await run(stream, (*PIECES[:3], 'ments": {"a": '), end)
    await stream.end()
    assert not any("tool_calls" in line["message"] for line in lines(written))


async def test_every_line_has_its_time() -> None:
    moments_ns = iter((1_000_000_000_000_001_000, 1_000_000_000_999_999_999, 1_000_000_001_000_000_000))
    written = Written()
    asked = AskedOf(model="m", is_chat=True, keep_alive_s=None)
    answer = OllamaAnswer(asked, since_s=0, now_ns=lambda: next(moments_ns))
    sink = EventsSink(answer, TOOLS, no_headers, written)
    await run(sink, PIECES[:2])
    await sink.end()
    assert [line["created_at"] for line in lines(written)] == [
        "2001-09-09T01:46:40.000001Z",
        "2001-09-09T01:46:40.999999Z",
        "2001-09-09T01:46:41.000000Z",
    ]


async def test_a_prompt_has_its_answer_in_the_response() -> None:
    written = Written()
    sink = EventsSink(new_answer(is_chat=False), {}, no_headers, written)
    await run(sink, PIECES[:2])
    await sink.end()
    thinking, text, last = map(without_time, lines(written))
    assert thinking == {"model": "m:latest", "response": "", "thinking": "so", "done": False}
    assert text == {"model": "m:latest", "response": "Well.", "done": False}
    assert (last["response"], last["done"]) == ("", True)


async def test_over_the_router(start_worker: StartWorker, start_router: StartRouter) -> None:
    router = await start_router(await start_worker())
    lines, headers = await chat(router, model="m:latest", options={"num_ctx": 3})
    assert [line["message"]["content"] for line in lines] == ["Hello", " world", ""]
    assert headers["x-infermesh-ignored-fields"] == "options.num_ctx"
    assert headers["x-infermesh-endpoint"]
    (body,), _ = await generate(router, stream=False)
    assert (body["response"], body["eval_count"], body["prompt_eval_count"]) == ("Hello world", 2, 3)
    assert body["prompt_eval_duration"] > 0  # as the router saw it: the worker did not measure it
    assert body["eval_duration"] > 0
    assert body["prompt_eval_duration"] + body["eval_duration"] <= body["total_duration"]
    (*_, last), _ = await chat(router)
    assert min(last["prompt_eval_duration"], last["eval_duration"], last["total_duration"]) > 0


async def fail_late(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    yield started(request.model)
    yield delta("Hello")
    raise FailedPrecondition("It broke.", reason="BROKEN")


async def refuse(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    raise InvalidArgument("sampling.top_k: is odd", fields={"sampling.top_k": "is odd"})
    yield started(request.model)


async def take_no_thinking(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    yield pb.GenerateResponse(started=pb.Started(model=request.model, ignored_fields=["chat.enable_thinking"]))
    yield finished()


async def test_an_error_in_the_middle_is_the_last_line(start_worker: StartWorker, start_router: StartRouter) -> None:
    router = await start_router(await start_worker(script=fail_late))
    (first, error), _ = await chat(router)
    assert first["message"]["content"] == "Hello"
    assert list(error) == ["error"]
    assert "It broke." in error["error"]


async def test_errors_before_the_first_line(start_worker: StartWorker, start_router: StartRouter) -> None:
    router = await start_router(await start_worker(script=refuse))
    with pytest.raises(InvalidArgument, match=r"^options.top_k: is odd") as caught:
        await chat(router)
    assert list(caught.value.fields) == ["options.top_k"]
    with pytest.raises(ModelNotFound):
        await generate(router, model="nobody")


async def test_what_the_template_does_not_take_is_named(start_worker: StartWorker, start_router: StartRouter) -> None:
    router: RunningRouter = await start_router(await start_worker(script=take_no_thinking))
    _, headers = await chat(router, think=True)
    assert headers["x-infermesh-ignored-fields"] == "think"
