"""Every dialect's images become parts of the contract's messages, and errors name them as the dialect does."""

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.anthropic.convert import convert_count, convert_messages
from infermesh_router.images.rules import ImageRules
from infermesh_router.ollama.convert import convert_chat as convert_ollama_chat
from infermesh_router.ollama.convert import convert_generate
from infermesh_router.openai.bodies import BodyRules
from infermesh_router.openai.conversion import AskedCall, Converted, convert_chat
from infermesh_router.openai.convert.tokens import convert_template, convert_tokenize
from infermesh_router.openai.errors import rename_fields
from infermesh_router.requests.bounds import Bounds
from infermesh_router.responses.convert import Past, convert_response
from infermesh_router.testing.images import DATA_URL, ENCODED, JPEG, PNG
from infermesh_runtime.errors import InvalidArgument

RULES = BodyRules(ignore_unknown=False, max_bytes=1 << 20, bounds=Bounds(), images=ImageRules(most=3))
WITH_URLS = replace(RULES, images=ImageRules(urls=True))
WEB = "https://example.org/a.png"
Converting = Callable[[bytes, BodyRules], Converted | AskedCall]

OPENAI = {"type": "image_url", "image_url": {"url": DATA_URL, "detail": "low"}}
ANTHROPIC = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ENCODED}}
RESPONSES = {"type": "input_image", "image_url": DATA_URL, "detail": "low"}


def says(text: str, kind: str = "text") -> dict[str, str]:
    return {"type": kind, "text": text}


def user(*parts: dict[str, Any], role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": list(parts)}


def converted(convert: Converting, body: dict[str, Any], rules: BodyRules = RULES) -> Converted | AskedCall:
    data = json.dumps({"model": "m"} | body).encode()
    return convert(HttpBody(data=data).SerializeToString(), rules)


def messages(
    convert: Converting, body: dict[str, Any], rules: BodyRules = RULES
) -> list[list[str | tuple[bytes, str]]]:
    """The parts of each message: texts, and the bytes and details of images."""
    made = converted(convert, body, rules)
    call = made.call if isinstance(made, AskedCall) else made.job.calls[0]
    kind = pb.TokenizeRequest if call.method.endswith("Tokenize") else pb.GenerateRequest
    chat = kind.FromString(call.body).chat
    return [
        [(part.image.data, part.image.detail) if part.HasField("image") else part.text for part in message.parts]
        or [*message.content_parts, *([message.content] if message.content else [])]
        for message in chat.messages
    ]


def test_openai() -> None:
    body = {"messages": [user(says("look"), OPENAI, says(""), says("well?")), user(says("a"))]}
    shown = [["look", (PNG, "low"), "well?"], ["a"]]
    assert messages(convert_chat, body) == shown
    assert messages(convert_tokenize, body) == shown
    assert messages(convert_template, body) == shown
    alone = {"messages": [user({"type": "image_url", "image_url": DATA_URL})]}
    assert messages(convert_chat, alone) == [[(PNG, "")]]


def test_anthropic() -> None:
    call = {"type": "tool_use", "id": "c", "name": "f", "input": {}}
    shot = {"type": "tool_result", "tool_use_id": "c", "content": [says("seen"), ANTHROPIC], "is_error": True}
    body = {
        "messages": [
            user(ANTHROPIC, says("what?")),
            user(call, role="assistant"),
            user(shot, ANTHROPIC),
            user(ANTHROPIC),
        ]
    }
    shown = [[(PNG, ""), "what?"], [], ["Error:", "seen", (PNG, "")], [(PNG, ""), (PNG, "")]]
    rules = replace(RULES, images=ImageRules())
    assert messages(convert_messages, body | {"max_tokens": 9}, rules) == shown
    assert messages(convert_count, body, rules) == shown


def test_responses() -> None:
    call = {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}
    output = {"type": "function_call_output", "call_id": "c", "output": [RESPONSES | {"detail": "original"}]}
    body = {"instructions": "see", "input": [user(says("what?", "input_text"), RESPONSES), call, output]}
    assert messages(convert_response, body) == [["see"], ["what?", (PNG, "low")], [], [(PNG, "high")]]


def test_a_kept_response_has_its_images() -> None:
    made = converted(convert_response, {"input": [user(RESPONSES)]})
    (item,) = made.extra.items
    assert json.loads(item.body)["content"] == [RESPONSES]
    past = Past((item.body,))
    body = HttpBody(data=json.dumps({"model": "m", "input": "hi", "previous_response_id": "r"}).encode())
    (call,) = convert_response(body.SerializeToString(), RULES, past=past).job.calls
    assert pb.GenerateRequest.FromString(call.body).chat.messages[0].parts[0].image.data == PNG


def test_ollama() -> None:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "what?", "images": [ENCODED, ENCODED]}]}
    assert messages(convert_ollama_chat, body) == [[(PNG, ""), (PNG, ""), "what?"]]
    asked = {"prompt": "what?", "system": "see", "images": [ENCODED]}
    assert messages(convert_generate, asked) == [["see"], [(PNG, ""), "what?"]]
    assert messages(convert_generate, {"images": [ENCODED]}) == [[(PNG, "")]]
    made = converted(convert_generate, asked)
    assert not made.extra.said, "numbers hold no images, so there is no context to go on with"


MANY = [OPENAI] * 4
BAD = "data:image/png;base64,aGk="
CASES: list[tuple[Converting, dict[str, Any], str]] = [
    (convert_chat, {"messages": [user(says("a")), user(says(""), OPENAI)]}, "messages[1].content[1].image_url"),
    (convert_template, {"messages": [user(says(""), says("a"), OPENAI)]}, "messages[0].content[2].image_url"),
    (
        convert_messages,
        {"max_tokens": 9, "system": "s", "messages": [user(ANTHROPIC)]},
        "messages[0].content[0].source",
    ),
    (
        convert_messages,
        {"max_tokens": 9, "messages": [user({"type": "tool_result", "tool_use_id": "c", "content": [ANTHROPIC]})]},
        "messages[0].content[0].content[0].source",
    ),
    (convert_count, {"messages": [user(says("a")), user(says("b"), ANTHROPIC)]}, "messages[1].content[1].source"),
    (convert_response, {"instructions": "s", "input": [user(RESPONSES)]}, "input[0].content[0].image_url"),
    (
        convert_response,
        {"input": [{"type": "function_call_output", "call_id": "c", "output": [RESPONSES]}]},
        "input[0].output[0].image_url",
    ),
    (convert_ollama_chat, {"messages": [{"role": "user", "images": [ENCODED]}]}, "messages[0].images[0]"),
    (convert_generate, {"prompt": "x", "system": "s", "images": [ENCODED]}, "images[0]"),
]
IDS = [f"{convert.__name__}-{path}" for convert, _, path in CASES]


@pytest.mark.parametrize(("convert", "body", "path"), CASES, ids=IDS)
def test_a_worker_that_refuses_an_image_is_understood(convert: Converting, body: dict[str, Any], path: str) -> None:
    made = converted(convert, body)
    call = made.call if isinstance(made, AskedCall) else made.job.calls[0]
    names = made.extra if isinstance(made, AskedCall) else made.job.field_names
    refused = InvalidArgument(f"{call.wanted.image}: cannot be read", fields={call.wanted.image: "cannot be read"})
    told = rename_fields(refused, names)
    assert (told.message, list(told.fields)) == (f"{path}: cannot be read", [path])


@pytest.mark.parametrize(("convert", "body", "path"), CASES, ids=IDS)
def test_a_bad_image_is_named(convert: Converting, body: dict[str, Any], path: str) -> None:
    text = json.dumps(body).replace(ENCODED, "aGk=")
    with pytest.raises(InvalidArgument) as refused:
        converted(convert, json.loads(text))
    assert refused.value.message.startswith(f"'{path}' must be an image: a PNG")
    assert list(refused.value.fields) == [path]


@pytest.mark.parametrize(
    ("convert", "body", "path"),
    [
        (convert_chat, {"messages": [user({"type": "image_url", "image_url": {"url": WEB}})]}, CASES[0][2]),
        (
            convert_messages,
            {"max_tokens": 9, "messages": [user({"type": "image", "source": {"type": "url", "url": WEB}})]},
            "messages[0].content[0].source",
        ),
        (convert_response, {"input": [user(RESPONSES | {"image_url": WEB})]}, "input[0].content[0].image_url"),
    ],
)
def test_urls_wait_to_be_fetched_if_they_are_allowed(convert: Converting, body: dict[str, Any], path: str) -> None:
    with pytest.raises(InvalidArgument, match="INFERMESH_IMAGE_URLS"):
        converted(convert, body)
    made = converted(convert, body, WITH_URLS)
    assert isinstance(made, Converted)
    (image,) = made.job.remote_images
    assert (image.url, image.message, image.part) == (WEB, 0, 0)
    assert messages(convert, body, WITH_URLS) == [[(b"", "low" if convert is convert_response else "")]]
    assert image.path.endswith(path.rpartition(".")[2])


@pytest.mark.parametrize(
    ("convert", "body", "told"),
    [
        (convert_chat, {"messages": [user(*MANY)]}, "'messages[0].content[3].image_url' is one image too many"),
        (convert_chat, {"messages": [user({"type": "image_url"})]}, "'messages[0].content[0].image_url' is required"),
        (
            convert_chat,
            {"messages": [user({"type": "image_url", "image_url": {"url": DATA_URL, "detail": "most"}})]},
            "'messages[0].content[0].image_url.detail' must be",
        ),
        (
            convert_messages,
            {"max_tokens": 9, "messages": [user({"type": "image", "source": {"type": "file", "file_id": "f"}})]},
            "'messages[0].content[0].source.type' 'file' is not supported",
        ),
        (
            convert_messages,
            {"max_tokens": 9, "messages": [user(says("hi")), user(ANTHROPIC, role="assistant")]},
            "has a block of type 'image', which is not allowed in a message with role 'assistant'",
        ),
        (
            convert_messages,
            {"max_tokens": 9, "system": [ANTHROPIC], "messages": [user(says("hi"))]},
            "'system[0].type' 'image' is not supported",
        ),
        (
            convert_response,
            {"input": [user({"type": "input_image", "file_id": "file-1"})]},
            "'input[0].content[0].file_id' 'file-1' is not supported",
        ),
        (convert_response, {"input": [user({"type": "input_image"})]}, "'input[0].content[0].image_url' is required"),
        (
            convert_ollama_chat,
            {"messages": [{"role": "user", "images": [WEB]}]},
            "'messages[0].images[0]' is not valid",
        ),
    ],
)
def test_what_is_refused(convert: Converting, body: dict[str, Any], told: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        converted(convert, body)
    assert told in refused.value.message


def test_an_image_of_an_earlier_response_is_named_by_what_refers_to_it() -> None:
    past = Past((json.dumps({"type": "message", **user(RESPONSES | {"image_url": BAD})}).encode(),))
    body = HttpBody(data=json.dumps({"model": "m", "input": "hi", "previous_response_id": "r"}).encode())
    with pytest.raises(InvalidArgument, match=r"^'previous_response_id' must be an image"):
        convert_response(body.SerializeToString(), RULES, past=past)


def test_the_same_image_hashes_alike_and_another_does_not() -> None:
    def blocks(data_url: str) -> tuple[int, ...]:
        made = converted(convert_chat, {"messages": [user({"type": "image_url", "image_url": data_url})]})
        assert isinstance(made, Converted)
        assert made.job.calls[0].wanted.prompt_tokens > 500
        return made.job.calls[0].wanted.blocks

    other = f"data:image/jpeg;base64,{base64.b64encode(JPEG).decode()}"
    assert len(blocks(DATA_URL)) > 4
    assert blocks(DATA_URL) == blocks(DATA_URL.replace("png", "*"))
    assert not set(blocks(DATA_URL)) & set(blocks(other))
