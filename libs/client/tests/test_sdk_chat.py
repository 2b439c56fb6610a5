"""`chat` of both clients: text, reasoning and tool calls of an answer, whole and in parts, over a real gRPC server."""

import json
from contextlib import aclosing
from pathlib import Path

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_client import Answer, AsyncClient, ChatMessage, Client, image_part
from infermesh_client.image_parts import MessagePart
from infermesh_runtime.answer_parsing.parts import CallArguments, CallBegins, CallEnds, Part, Reasoning, Text
from infermesh_runtime.errors import InvalidArgument
from libs.client.tests.conftest import RunningMesh

ASKED: list[ChatMessage] = [{"role": "user", "content": "What is the weather in Rome?"}]
TOOLS = [pb.Tool(name="weather", parameters_json='{"type": "object"}')]
WORDS = (
    "I should",
    " look.</thi",
    "nk>Let me see.",
    '<tool_call>{"name": "weather", "argum',
    'ents": {"city": "Ro',
    'me"}}',
)


@pytest.fixture
def tool_mesh(mesh: RunningMesh) -> RunningMesh:
    mesh.servicer.style = pb.AnswerStyle(tool_format="hermes", reasoning="think", reasoning_opened=True)
    mesh.servicer.words = (*WORDS, "</tool_call>")
    return mesh


def check(answer: Answer) -> None:
    assert (answer.reasoning, answer.text, answer.finish_reason) == ("I should look.", "Let me see.", "tool_calls")
    (call,) = answer.tool_calls
    assert (call.name, json.loads(call.arguments), call.complete) == ("weather", {"city": "Rome"}, True)
    assert answer.started.model == "tiny"


def joined(parts: list[Part], kind: type[Text | Reasoning | CallArguments]) -> str:
    return "".join(part.text for part in parts if isinstance(part, kind))


def test_a_whole_answer(tool_mesh: RunningMesh) -> None:
    with Client(tool_mesh.address) as client:
        check(client.chat(ASKED, tools=TOOLS, temperature=0))
    (request,) = tool_mesh.servicer.requests
    assert request.text_options.show_marks
    assert [tool.name for tool in request.chat.tools] == ["weather"]


def test_parts_of_an_answer(tool_mesh: RunningMesh) -> None:
    with Client(tool_mesh.address) as client:
        parts = list(client.chat_parts(ASKED, tools=TOOLS))
    assert joined(parts, Reasoning) == "I should look."
    assert joined(parts, Text) == "Let me see."
    assert CallBegins(0, "weather") in parts
    assert joined(parts, CallArguments) == '{"city": "Rome"}'
    assert parts[-1] == CallEnds(0, complete=True)


async def test_the_asynchronous_client(tool_mesh: RunningMesh) -> None:
    async with AsyncClient(tool_mesh.address) as client:
        check(await client.chat(ASKED, tools=TOOLS))
        async with aclosing(client.chat_parts(ASKED, tools=TOOLS)) as parts:
            assert joined([part async for part in parts], Text) == "Let me see."


def test_calls_and_results_go_round(tool_mesh: RunningMesh) -> None:
    with Client(tool_mesh.address) as client:
        answer = client.chat(ASKED, tools=TOOLS)
        result: ChatMessage = {"role": "tool", "content": "Sunny.", "tool_call_id": answer.tool_calls[0].id}
        client.chat([*ASKED, answer.message(), result], tools=TOOLS)
    _, said, told = tool_mesh.servicer.requests[-1].chat.messages
    assert (said.content, said.reasoning_content) == ("Let me see.", "I should look.")
    assert said.tool_calls[0].id == told.tool_call_id
    assert json.loads(said.tool_calls[0].arguments_json) == {"city": "Rome"}


def test_a_call_that_was_cut_off_says_so(tool_mesh: RunningMesh) -> None:
    tool_mesh.servicer.words = WORDS[:5]
    tool_mesh.servicer.finish_reason = pb.FINISH_REASON_LENGTH
    with Client(tool_mesh.address) as client:
        answer = client.chat(ASKED, tools=TOOLS)
    (call,) = answer.tool_calls
    assert (call.arguments, call.complete, answer.finish_reason) == ('{"city": "Ro', False, "length")


def test_without_a_style_all_is_text(mesh: RunningMesh) -> None:
    with Client(mesh.address) as client:
        answer = client.chat(ASKED)
    assert (answer.text, answer.reasoning, answer.tool_calls, answer.finish_reason) == ("Hello, world!", "", [], "stop")


def test_ids_are_as_mistrals_templates_want_them(tool_mesh: RunningMesh) -> None:
    tool_mesh.servicer.style = pb.AnswerStyle(tool_format="mistral")
    tool_mesh.servicer.words = ('[TOOL_CALLS][{"name": "weather", "arguments": {}}]',)
    with Client(tool_mesh.address) as client:
        (call,) = client.chat(ASKED, tools=TOOLS).tool_calls
    assert len(call.id) == 9
    assert call.id.isalnum()


def test_bad_requests_are_not_sent(tool_mesh: RunningMesh) -> None:
    with Client(tool_mesh.address) as client:
        with pytest.raises(InvalidArgument, match="use generate for n"):
            client.chat(ASKED, n=2)
        with pytest.raises(InvalidArgument, match="needs a conversation"):
            client.chat("text")
        for schema, problem in (("{", "is not valid JSON"), ("[]", "must be a JSON object")):
            with pytest.raises(InvalidArgument, match=problem):
                client.chat(ASKED, tools=[pb.Tool(name="f", parameters_json=schema)])
    assert not tool_mesh.servicer.requests


def test_images_of_a_message(mesh: RunningMesh, tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"png")
    parts: list[MessagePart] = ["What are these?", tmp_path / "a.png", b"gif", image_part(b"jpeg", detail="low")]
    message: ChatMessage = {"role": "user", "content": "", "parts": parts}
    missing: ChatMessage = {"role": "user", "content": "", "parts": [tmp_path / "none.png"]}
    with Client(mesh.address) as client:
        client.chat([message])
        with pytest.raises(InvalidArgument, match=r"cannot read the image .*none\.png: No such file"):
            client.chat([missing])
    (request,) = mesh.servicer.requests
    text, *images = request.chat.messages[0].parts
    assert text.text == "What are these?"
    assert [part.image.data for part in images] == [b"png", b"gif", b"jpeg"]
    assert images[2].image.detail == "low"
