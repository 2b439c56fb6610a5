"""Doctor against servers that repeat its key, send without end, or are busy while it looks for a cause."""

import json
import time
from dataclasses import replace
from typing import Any

import httpx
import pytest

from infermesh_client.doctor.diagnosis import Outcome, diagnose
from infermesh_client.doctor.reading import events
from infermesh_client.doctor.recording import RecordedRequest
from infermesh_client.doctor.reply import read_error
from infermesh_client.doctor.server import Server, Unreachable
from infermesh_runtime.errors import NotFound
from libs.client.tests.doctor.fake_server import Answer, FakeServer, refusal, stream

pytestmark = pytest.mark.timeout(30)

KEY = 'sk-0123456789"abcdef'
BODY: dict[str, Any] = {"model": "MODEL", "messages": [], "temperature": 0.5, "user": "somebody", "seed": 1}
PLAIN = RecordedRequest("a call", "POST", "/v1/chat/completions", BODY)
STREAMED = RecordedRequest("a stream", "POST", "/v1/chat/completions", {**BODY, "stream": True})


@pytest.mark.parametrize("error", [f"bad key {KEY}", {"message": f"bad key {KEY}"}, {"code": f"bad key {KEY}"}])
def test_an_event_does_not_show_the_key(server: Server, fake: FakeServer, error: object) -> None:
    fake.rule = lambda _: stream({"error": error})
    problem = diagnose(replace(server, key=KEY), STREAMED, "tiny").problem
    assert "bad key ***" in problem
    assert "0123" not in problem


@pytest.mark.parametrize("before", [285, 290, 299])
def test_a_key_across_the_cut_is_not_shown(server: Server, fake: FakeServer, before: int) -> None:
    fake.rule = lambda _: refusal("x" * before + KEY, status=500)
    problem = diagnose(replace(server, key=KEY), PLAIN, "tiny").problem
    assert problem.startswith("500 xxx")
    assert "sk-" not in problem
    assert len(problem) <= len("500 ") + 300


@pytest.mark.parametrize("document", [{"error": KEY}, {"told": KEY}, [KEY]])
def test_an_error_of_any_shape_does_not_show_the_key(server: Server, fake: FakeServer, document: object) -> None:
    fake.rule = lambda _: Answer(500, json.dumps(document).encode())
    problem = diagnose(replace(server, key=KEY), PLAIN, "tiny").problem
    assert "***" in problem
    assert "0123" not in problem


@pytest.mark.parametrize("document", ['{"told": "a%s"}', '{"error": {"code": "a%s"}}', '["a%s"]'])
def test_a_key_that_is_escaped_is_not_shown(server: Server, fake: FakeServer, document: str) -> None:
    fake.rule = lambda _: Answer(500, (document % r"b\/c\u0073k\"'0").encode())
    problem = diagnose(replace(server, key="""b/csk"'0"""), PLAIN, "tiny").problem
    assert "a***" in problem
    fake.rule = lambda _: Answer(200, b'data: {"error": {"code": "a%s"}}\n\n' % rb"b\/c\u0073k\"'0")
    assert "a***" in diagnose(replace(server, key="""b/csk"'0"""), STREAMED, "tiny").problem


def test_a_key_that_no_header_can_hold_is_not_shown(server: Server) -> None:
    assert "abc" not in diagnose(replace(server, key="abc "), PLAIN, "tiny").problem
    with pytest.raises(Unreachable) as caught:
        diagnose(replace(server, key="abc", url="http://abc:80:80"), PLAIN, "tiny")
    assert "abc" not in caught.value.message.partition(": ")[2]


@pytest.mark.parametrize("status", [429, 500, 503, 0])
def test_no_field_is_blamed_while_the_server_is_busy(server: Server, fake: FakeServer, status: int) -> None:
    def answer(body: dict[str, Any]) -> Answer:
        if body.keys() >= BODY.keys():
            return refusal("No.")
        return refusal("Later.", status=status) if status else Answer(content=b"{", hangs=True)

    fake.rule = answer
    found = diagnose(replace(server, timeout_s=0.1), PLAIN, "tiny")
    assert found.named(Outcome.REFUSED) == []
    assert found.problem == (f"{status} Later." if status else "no whole answer within 0.1 s")
    assert {each.outcome for each in found.fields} == {Outcome.UNTRIED}


def test_a_field_in_a_field_is_not_blamed_while_the_server_is_busy(server: Server, fake: FakeServer) -> None:
    def answer(body: dict[str, Any]) -> Answer:
        if "options" not in body:
            return Answer()
        return refusal("No.") if len(body["options"]) == 2 else refusal("Later.", status=429)

    fake.rule = answer
    request = asked({"model": "MODEL", "messages": [], "options": {"one": 1, "two": 2}})
    assert diagnose(server, request, "tiny").named(Outcome.REFUSED) == ["options"]


@pytest.mark.parametrize(
    ("order", "refused", "untried"),
    [
        (["temperature", "user", "seed"], ["temperature", "user"], ["seed"]),
        (["seed", "temperature", "user"], [], ["seed", "temperature", "user"]),
    ],
)
def test_fields_are_added_until_the_server_is_busy(
    server: Server, fake: FakeServer, order: list[str], refused: list[str], untried: list[str]
) -> None:
    def answer(body: dict[str, Any]) -> Answer:
        if "temperature" in body or "user" in body:  # two causes, so that leaving out one does not help
            return refusal("No.")
        return refusal("Later.", status=429) if "seed" in body else Answer()

    fake.rule = answer
    found = diagnose(server, asked({name: BODY[name] for name in ("model", "messages", *order)}), "tiny")
    assert found.problem == "429 Later."
    assert found.named(Outcome.REFUSED) == refused
    assert found.named(Outcome.UNTRIED) == untried


def asked(body: dict[str, Any]) -> RecordedRequest:
    return RecordedRequest("a call", "POST", "/v1/chat/completions", body)


@pytest.mark.parametrize("content", [b"x", b"data: "])
def test_a_stream_without_lines_ends_in_time(server: Server, fake: FakeServer, content: bytes) -> None:
    fake.rule = lambda _: Answer(content=content, kind="text/event-stream", drips=True)
    since_s = time.monotonic()
    found = diagnose(replace(server, timeout_s=0.2), STREAMED, "tiny")
    assert found.problem == "no whole answer within 0.2 s"
    assert time.monotonic() - since_s < 5


@pytest.mark.parametrize("request_", [PLAIN, STREAMED])
@pytest.mark.parametrize("content", [b"x" * (1 << 20), (b'data: {"a": "' + b"x" * 1000 + b'"}\n\n') * 1000])
def test_an_answer_without_end_is_not_kept(
    server: Server, fake: FakeServer, request_: RecordedRequest, content: bytes
) -> None:
    fake.rule = lambda _: Answer(content=content, drips=True)
    assert diagnose(replace(server, timeout_s=30), request_, "tiny").problem == "the answer is longer than 4 MiB"


@pytest.mark.parametrize("piece", [b" ", b" " * (1 << 20)])
def test_a_list_of_models_without_end_is_not_kept(server: Server, fake: FakeServer, piece: bytes) -> None:
    fake.rule = lambda _: Answer(content=piece, drips=True)
    since_s = time.monotonic()
    with pytest.raises(NotFound, match="--model NAME"):
        replace(server, timeout_s=0.2 if len(piece) == 1 else 30).default_model()
    assert time.monotonic() - since_s < 5


def test_compression_hides_nothing(server: Server, fake: FakeServer) -> None:
    diagnose(server, PLAIN, "tiny")
    assert fake.headers[0]["accept-encoding"] == "identity"


@pytest.mark.parametrize("request_", [PLAIN, STREAMED])
@pytest.mark.parametrize("status", [200, 500])
def test_deep_answers_are_no_json(server: Server, fake: FakeServer, request_: RecordedRequest, status: int) -> None:
    deep = b"[" * 200_000
    fake.rule = lambda _: Answer(status, b"data: " + deep + b"\n\n" if request_ is STREAMED and status == 200 else deep)
    assert "JSON" in diagnose(server, request_, "tiny").problem or status == 500
    with pytest.raises(NotFound):
        server.default_model()


def test_an_error_of_any_depth_is_read() -> None:
    for depth in range(500, 1000):  # json reads a little deeper than it writes
        assert read_error(500, {}, b"[" * depth + b"]" * depth).message


def test_lines_may_be_split_anywhere() -> None:
    text = 'data: {"choices": ["a\u2028b"]}\r\ndata: [DONE]\r\n'.encode()
    for end in range(1, len(text)):
        assert _joined(text[:end], text[end:]) == ['{"choices": ["a\u2028b"]}', "[DONE]"]


def _joined(*pieces: bytes) -> list[str]:
    return list(events(httpx.Response(200, content=iter(pieces)), time.monotonic() + 10))
