"""Forms are read as they were sent, and broken ones are refused."""

from contextlib import suppress

import httpx
import pytest
from google.api.httpbody_pb2 import HttpBody
from hypothesis import example, given, settings
from hypothesis import strategies as st

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.audio.convert import TextAnswer, convert_transcription, convert_translation
from infermesh_router.openai.bodies import BodyRules
from infermesh_router.openai.conversion import AskedCall
from infermesh_router.requests.bounds import Bounds
from infermesh_router.requests.form import content_type_of, read_form
from infermesh_router.testing.copies import copies_during
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.rpc.limits.body_budget import ARRIVING_COPIES

RULES = BodyRules(ignore_unknown=False, max_bytes=1 << 20, bounds=Bounds())
FILE = ("file", ("a.wav", b"\r\n--sound--\r\n"))
NAMES = st.text(st.sampled_from("abcXYZ019 _-.[]():;=é"), min_size=1)


def sent(*parts: tuple[str, object]) -> tuple[bytes, str]:
    """A serialised HttpBody with a form as clients write it, and its content type."""
    request = httpx.Request("POST", "http://x", files=list(parts))  # type: ignore[arg-type] # as httpx takes them
    content_type = request.headers["content-type"]
    return HttpBody(content_type=content_type, data=request.read()).SerializeToString(), content_type


def converted(*parts: tuple[str, object]) -> tuple[pb.TranscribeRequest, TextAnswer]:
    message, content_type = sent(*parts)
    asked: AskedCall = convert_transcription(message, content_type, RULES, "")
    return pb.TranscribeRequest.FromString(asked.call.body), asked.extra


def field(name: str, value: str) -> tuple[str, tuple[None, str]]:
    return name, (None, value)


def test_every_field_reaches_the_request() -> None:
    request, answer = converted(
        FILE,
        field("model", "ears"),
        field("language", "de"),
        field("prompt", "Grüße"),
        field("temperature", "0.25"),
        field("response_format", "verbose_json"),
        field("timestamp_granularities[]", "word"),
        field("timestamp_granularities[]", "segment"),
        field("seed", "7"),
        field("device", "cpu"),
        field("priority", "-3"),
        field("stream", "false"),
    )
    assert request == pb.TranscribeRequest(
        model="ears",
        audio=FILE[1][1],
        language="de",
        prompt="Grüße",
        temperature=0.25,
        times=pb.SPEECH_TIMES_WORDS,
        task=pb.SPEECH_TASK_TRANSCRIBE,
        seed=7,
        device="cpu",
        priority=3,
    )
    assert (answer.format, answer.words, answer.segments, answer.stream) == ("verbose_json", True, True, False)


def test_what_is_not_given_is_left_to_the_model() -> None:
    request, answer = converted(FILE, field("temperature", ""), field("language", ""))
    assert not request.HasField("temperature")
    assert (request.language, request.times, request.HasField("seed")) == ("", pb.SPEECH_TIMES_SEGMENTS, True)
    assert (answer.format, answer.stream, answer.task) == ("json", False, "transcribe")
    message, content_type = sent(FILE)
    translated = convert_translation(message, content_type, RULES, "azure")
    request = pb.TranscribeRequest.FromString(translated.call.body)
    assert (request.task, request.model) == (pb.SPEECH_TASK_TRANSLATE, "azure")


def test_unknown_fields_are_refused_or_named() -> None:
    message, content_type = sent(FILE, field("colour", "red"))
    with pytest.raises(InvalidArgument, match="'colour' is not a known field"):
        convert_transcription(message, content_type, RULES, "")
    lenient = BodyRules(ignore_unknown=True, max_bytes=1 << 20, bounds=Bounds())
    assert convert_transcription(message, content_type, lenient, "").ignored == ("colour",)


def test_a_form_is_in_memory_no_more_often_than_is_counted() -> None:
    size_bytes = 4 << 20
    message, content_type = sent(("file", ("a.wav", bytes(size_bytes))))
    rules = BodyRules(ignore_unknown=False, max_bytes=8 << 20, bounds=Bounds())
    copies = copies_during(size_bytes, lambda: convert_transcription(message, content_type, rules, ""))
    assert copies < ARRIVING_COPIES - 1 + 0.25, "one is the message itself; parts are made with some spare room"


def test_forms_that_are_too_large_are_refused() -> None:
    message, content_type = sent(("file", ("a", bytes(1 << 20))))
    with pytest.raises(InvalidArgument) as caught:
        convert_transcription(message, content_type, RULES, "")
    assert caught.value.reason == "REQUEST_TOO_LARGE"


def test_headers_of_parts_are_bounded() -> None:
    with pytest.raises(InvalidArgument, match=r"(?i)header"):
        read_form(b'--x\r\nContent-Disposition: form-data; name="' + b"n" * 20_000, "multipart/form-data; boundary=x")


@given(st.lists(st.tuples(NAMES, st.binary())))
def test_forms_come_back_as_they_were_sent(parts: list[tuple[str, bytes]]) -> None:
    message, content_type = sent(*((name, ("a", data)) for name, data in [("first", b""), *parts]))
    assert content_type_of(message) == content_type
    form = read_form(HttpBody.FromString(message).data, content_type)
    assert form is not None
    assert [(part.name, bytes(part.data)) for part in form] == [("first", b""), *parts]


@settings(max_examples=300)
@given(st.data())
def test_no_damage_to_a_form_is_more_than_a_refusal(data: st.DataObject) -> None:
    whole, content_type = sent(FILE, field("model", "ears"), field("temperature", "0"))
    body = bytearray(HttpBody.FromString(whole).data)
    for _ in range(data.draw(st.integers(0, 3))):
        at = data.draw(st.integers(0, len(body) - 1))
        body[at : at + data.draw(st.integers(0, 30))] = data.draw(st.binary(max_size=5))
    message = HttpBody(content_type=content_type, data=bytes(body)).SerializeToString()
    with suppress(InvalidArgument):
        asked = convert_transcription(message, content_type, RULES, "")
        assert pb.TranscribeRequest.FromString(asked.call.body).audio


@given(st.binary(max_size=200))
@example(b"\x0a\xff")
def test_what_is_no_http_body_is_refused(message: bytes) -> None:
    with suppress(InvalidArgument):
        assert isinstance(content_type_of(message), str)


@pytest.mark.parametrize("boundary", ["b" * 300, "\u20ac", "\xe9"])
def test_odd_content_types_are_no_more_than_a_refusal(boundary: str) -> None:
    message = HttpBody(content_type=f"multipart/form-data; boundary={boundary}").SerializeToString()
    with pytest.raises(InvalidArgument):
        read_form(b"--x--", content_type_of(message))
