"""Tests of what dialects with one choice get: parts of an answer, written as their events or gathered for one body."""

import orjson

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.answers.events import BodySink, EventsSink
from infermesh_router.openai.answers.parsed import Answer, ParsedAnswer
from infermesh_router.testing.dialects.messages import Written
from infermesh_runtime.answer_parsing.parts import CallArguments, CallBegins, Part, Reasoning, Text
from infermesh_runtime.errors import InfermeshError, Unavailable

TOOLS = {"f": {"type": "object", "properties": {"a": {"type": "integer"}}}}
STARTED = pb.Started(answer_style=pb.AnswerStyle(tool_format="hermes", reasoning="think", reasoning_opened=True))
PIECES = ("so", "me</th", "ink>Well.", '<tool_call>{"name": "f", "argu', 'ments": {"a": 1}}</tool_', "call>")
STOP, LENGTH = pb.FINISH_REASON_STOP, pb.FINISH_REASON_LENGTH


class Lines:
    """A dialect with one line for each part."""

    content_type = "text/lines"

    def begin(self, answer: Answer) -> bytes:
        return f"begin {answer.started.answer_style.tool_format}\n".encode()

    def wait(self, text: str) -> bytes:
        return f"wait {text}\n".encode()

    def part(self, part: Part, answer: Answer) -> bytes:
        match part:
            case Text(text) | Reasoning(text):
                return f"{type(part).__name__} {text}\n".encode()
            case CallBegins(index, name):
                assert answer.calls[index].name == name
                return f"call {index} {name}\n".encode()
            case CallArguments(index, text):
                return f"arguments {index} {text}\n".encode()
        return b""

    def end(self, answer: Answer) -> bytes:
        return f"end {answer.finish_reason} {answer.usage.completion_tokens}\n".encode()

    def fail(self, error: InfermeshError, answer: Answer) -> bytes:
        return f"fail {error.message} after {answer.text}\n".encode()


async def no_headers(started: pb.Started | None) -> None:
    assert started == STARTED


def finished(reason: pb.FinishReason) -> pb.Finished:
    return pb.Finished(finish_reason=reason, usage=pb.Usage(completion_tokens=7))


def parsed(reason: pb.FinishReason, *pieces: str) -> Answer:
    reader = ParsedAnswer(TOOLS)
    reader.begin(STARTED)
    for piece in pieces:
        reader.take(pb.Delta(text=piece))
    reader.finish(finished(reason))
    return reader.answer


async def test_a_stream_is_written_part_by_part() -> None:
    written = Written()
    sink = EventsSink(Lines(), TOOLS, no_headers, written)
    assert not sink.begun
    await sink.begin(0, STARTED)
    assert sink.begun
    for piece in PIECES:
        await sink.take_delta(0, pb.Delta(text=piece))
    await sink.take_finished(0, finished(STOP))
    await sink.end()
    lines = written.text.splitlines()
    assert lines[0] == "begin hermes"
    assert "".join(line.removeprefix("Reasoning ") for line in lines if line.startswith("Reasoning")) == "some"
    assert "Text Well." in lines
    assert "call 0 f" in lines
    arguments = "".join(line.removeprefix("arguments 0 ") for line in lines if line.startswith("arguments"))
    assert orjson.loads(arguments) == {"a": 1}
    assert lines[-1] == "end tool_calls 7"
    assert [message.content_type for message in written.messages[:2]] == ["text/lines", ""]


async def test_an_error_closes_the_stream_in_the_dialects_words() -> None:
    written = Written()
    sink = EventsSink(Lines(), TOOLS, no_headers, written)
    await sink.begin(0, STARTED)
    await sink.take_delta(0, pb.Delta(text="</think>Half"))
    await sink.fail(Unavailable("gone", reason="GONE"))
    assert written.text.splitlines()[-1] == "fail gone after Half"


async def test_a_body_is_made_of_the_whole_answer() -> None:
    sink = BodySink(lambda answer: {"text": answer.text, "calls": len(answer.calls)}, TOOLS, no_headers)
    await sink.begin(0, STARTED)
    for piece in PIECES:
        await sink.take_delta(0, pb.Delta(text=piece))
    await sink.take_finished(0, finished(STOP))
    assert orjson.loads(sink.body()) == {"text": "Well.", "calls": 1}


def test_an_answer_tells_its_calls_and_why_it_ended() -> None:
    answer = parsed(STOP, *PIECES)
    assert (answer.text, answer.reasoning, answer.finish_reason) == ("Well.", "some", "tool_calls")
    (call,) = answer.calls
    assert call.name == "f"
    assert orjson.loads(call.arguments) == {"a": 1}
    assert call.complete
    assert call.id.startswith("call_")


def test_a_call_that_was_cut_off_is_not_complete() -> None:
    answer = parsed(LENGTH, "</think>", '<tool_call>{"name": "f", "arguments": {"a": ')
    assert answer.finish_reason == "length"
    assert [call.complete for call in answer.calls] == [False]


def test_without_tools_calls_are_text() -> None:
    reader = ParsedAnswer({})
    reader.begin(STARTED)
    reader.take(pb.Delta(text='</think><tool_call>{"name": "f", "arguments": {}}</tool_call>'))
    reader.finish(finished(STOP))
    assert reader.answer.text == '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
    assert reader.answer.finish_reason == "stop"


def test_ids_fit_the_templates_that_get_them_back() -> None:
    reader = ParsedAnswer(TOOLS)
    reader.begin(pb.Started(answer_style=pb.AnswerStyle(tool_format="mistral")))
    reader.take(pb.Delta(text='[TOOL_CALLS][{"name": "f", "arguments": {}}]'))
    reader.finish(finished(STOP))
    (call,) = reader.answer.calls
    assert len(call.id) == 9
    assert call.id.isalnum()


def test_a_style_that_the_router_does_not_know_is_text() -> None:
    reader = ParsedAnswer(TOOLS)
    reader.begin(pb.Started(answer_style=pb.AnswerStyle(tool_format="of-2030", reasoning="of-2031")))
    reader.take(pb.Delta(text="<think>x"))
    reader.finish(finished(STOP))
    assert reader.answer.text == "<think>x"
