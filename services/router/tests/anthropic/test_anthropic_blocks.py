"""Content blocks of answers with tool calls: as events, and whole."""

import json
from typing import Any

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.anthropic.answers import MessageMaker
from infermesh_router.anthropic.convert import Limits, convert_messages
from infermesh_router.anthropic.events import MessageEvents
from infermesh_router.openai.answers.events import BodySink, EventsSink
from infermesh_router.openai.bodies import BodyRules
from infermesh_router.requests.bounds import Bounds
from infermesh_router.testing.dialects.anthropic import HI, Received, body_message
from infermesh_router.testing.dialects.messages import Written

TOOLS = {"f": {"type": "object", "properties": {"a": {"type": "integer"}}}}
STARTED = pb.Started(answer_style=pb.AnswerStyle(tool_format="hermes", reasoning="think", reasoning_opened=True))
CALL = '<tool_call>\n{"name": "f", "arguments": {"a": 1}}\n</tool_call>'
STOP, LENGTH = pb.FINISH_REASON_STOP, pb.FINISH_REASON_LENGTH
LIMITS = Limits(stop_sequences=(), max_tokens=7)


def maker() -> MessageMaker:
    rules = BodyRules(ignore_unknown=False, max_bytes=1 << 20, bounds=Bounds())
    return MessageMaker(convert_messages(body_message(messages=[HI]), rules).job, LIMITS)


async def no_headers(started: pb.Started | None) -> None:
    assert started == STARTED


async def feed(sink: EventsSink | BodySink, text: str, reason: pb.FinishReason, step: int) -> None:
    await sink.begin(0, STARTED)
    for at in range(0, len(text), step):
        await sink.take_delta(0, pb.Delta(text=text[at : at + step]))
    await sink.take_finished(0, pb.Finished(finish_reason=reason, usage=pb.Usage(completion_tokens=7)))


async def streamed(text: str, reason: pb.FinishReason, step: int) -> list[dict[str, Any]]:
    """The content that a client gathers of the events."""
    written = Written()
    sink = EventsSink(MessageEvents(maker(), "r"), TOOLS, no_headers, written)
    await feed(sink, text, reason, step)
    await sink.end()
    content: list[dict[str, Any]] = []
    is_open = False
    for event in Received(written.data, {}).events:
        match event["type"]:
            case "content_block_start":
                assert not is_open
                assert event["index"] == len(content)
                content.append(event["content_block"] | {"json": ""})
                is_open = True
            case "content_block_delta":
                assert is_open
                delta = event["delta"]
                kind = delta.pop("type")
                if kind == "input_json_delta":
                    content[-1]["json"] += delta["partial_json"]
                for name in delta.keys() & {"text", "thinking", "signature"}:
                    content[-1][name] += delta[name]
            case "content_block_stop":
                assert event["index"] == len(content) - 1
                is_open = False
            case "message_delta":
                content.append({"reason": event["delta"]["stop_reason"]})
    assert not is_open
    return content


async def whole(text: str, reason: pb.FinishReason) -> dict[str, Any]:
    sink = BodySink(maker().whole, TOOLS, no_headers)
    await feed(sink, text, reason, 5)
    body: dict[str, Any] = json.loads(sink.body())
    return body


@pytest.mark.parametrize("step", [1, 3, 1000])
async def test_thinking_text_and_two_calls(step: int) -> None:
    text = f"hm</think>\n\nLet me see.\n{CALL}\n{CALL}"
    thinking, said, one, two, ending = await streamed(text, STOP, step)
    assert (thinking["type"], thinking["thinking"]) == ("thinking", "hm")
    assert thinking["signature"]
    assert said["text"].strip() == "Let me see."
    assert [(each["type"], each["name"], json.loads(each["json"])) for each in (one, two)] == [
        ("tool_use", "f", {"a": 1})
    ] * 2
    assert one["id"].startswith("toolu_")
    assert one["id"] != two["id"]
    assert ending == {"reason": "tool_use"}


@pytest.mark.parametrize("step", [1, 1000])
async def test_white_space_around_a_call_is_no_text(step: int) -> None:
    content = await streamed(f"hm</think>\n\n{CALL}\n\n", STOP, step)
    assert [block.get("type") for block in content] == ["thinking", "tool_use", None]
    body = await whole(f"hm</think>\n\n{CALL}\n\n", STOP)
    assert [block["type"] for block in body["content"]] == ["thinking", "tool_use"]
    assert body["stop_reason"] == "tool_use"


async def test_an_answer_of_white_space_is_text() -> None:
    blank, _ = await streamed("</think>  \n", STOP, 1)
    body = await whole("</think>  \n", STOP)
    assert [blank["text"]] == [block["text"] for block in body["content"]]


async def test_an_empty_answer_has_an_empty_text() -> None:
    text, ending = await streamed("</think>", STOP, 1)
    assert (text["text"], ending["reason"]) == ("", "end_turn")


async def test_a_call_that_was_cut_off_has_what_is_there() -> None:
    cut = '</think><tool_call>\n{"name": "f", "arguments": {"a": 1, "b": "x'
    body = await whole(cut, LENGTH)
    (block,) = body["content"]
    assert block["input"]["a"] == 1
    assert body["stop_reason"] == "max_tokens"
