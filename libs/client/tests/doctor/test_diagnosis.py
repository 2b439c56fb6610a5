"""What doctor says of each field, against servers that refuse, ignore, hang, or break off."""

import json
from dataclasses import replace
from typing import Any

import pytest

from infermesh_client.doctor.diagnosis import Diagnosis, Outcome, diagnose
from infermesh_client.doctor.recording import RecordedRequest
from infermesh_client.doctor.server import Server, Unreachable
from infermesh_runtime.errors import NotFound, Unauthenticated
from libs.client.tests.doctor.fake_server import MESH, Answer, FakeServer, Rule, refusal, stream

pytestmark = pytest.mark.timeout(30)

CHAT: dict[str, Any] = {
    "model": "MODEL",
    "messages": [{"role": "user", "content": "Hi", "name": "Ada"}],
    "temperature": 0.5,
    "user": "somebody",
    "tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}],
    "tool_choice": "auto",
}


def asked(body: dict[str, Any] | None = None, path: str = "/v1/chat/completions") -> RecordedRequest:
    return RecordedRequest("a call", "POST", path, CHAT if body is None else body)


def outcomes(diagnosis: Diagnosis) -> dict[str, Outcome]:
    return {each.name: each.outcome for each in diagnosis.fields}


def refuse(name: str, *, with_param: bool) -> Rule:
    """Refuses a top-level field, and names it or not."""

    def answer(body: dict[str, Any]) -> Answer:
        return refusal("No.", name if with_param else None) if name in body else Answer()

    return answer


def test_what_a_mesh_ignores_is_told_apart(server: Server, fake: FakeServer) -> None:
    named = {"x-infermesh-ignored-fields": "user,tools[0].function.strict,something"}
    fake.rule = lambda _: Answer(headers=MESH | named)
    found = diagnose(server, asked(), "tiny")
    assert found.is_good
    assert found.named(Outcome.IGNORED) == ["user", "tools[].function.strict"]
    assert outcomes(found)["temperature"] is Outcome.WORKS
    assert not {"model", "messages", "tools[].function.parameters.type"} & outcomes(found).keys()


def test_the_model_is_replaced_and_the_answer_is_short(server: Server, fake: FakeServer) -> None:
    fake.rule = lambda _: Answer()
    diagnose(server, asked(), "tiny")
    diagnose(server, asked({**CHAT, "max_completion_tokens": 500}), "tiny")
    diagnose(server, asked({"model": "MODEL", "messages": []}, "/api/chat"), "tiny")
    first, second, third = fake.bodies
    assert (first["model"], first["max_tokens"]) == ("tiny", 8)
    assert second["max_completion_tokens"] == 8
    assert "max_tokens" not in second
    assert third["options"] == {"num_predict": 8}


def test_other_servers_only_accept(server: Server, fake: FakeServer) -> None:
    fake.rule = lambda _: Answer()
    assert set(outcomes(diagnose(server, asked(), "tiny")).values()) == {Outcome.ACCEPTED}


@pytest.mark.parametrize("with_param", [True, False])
def test_a_refused_field_is_found(server: Server, fake: FakeServer, with_param: bool) -> None:
    fake.rule = refuse("user", with_param=with_param)
    found = diagnose(server, asked(), "tiny")
    assert found.named(Outcome.REFUSED) == ["user"]
    assert not found.is_good
    assert (found.status, found.problem) == (400, "")
    assert next(each for each in found.fields if each.name == "user").note == "No."
    assert Outcome.UNTRIED not in outcomes(found).values()


def test_a_field_that_the_message_quotes_is_found_at_once(server: Server, fake: FakeServer) -> None:
    fake.rule = lambda body: refusal("Field 'user' is unknown.") if "user" in body else Answer()
    assert diagnose(server, asked(), "tiny").named(Outcome.REFUSED) == ["user"]
    assert len(fake.bodies) == 2


@pytest.mark.parametrize("with_param", [True, False])
def test_two_refused_fields_are_found(server: Server, fake: FakeServer, with_param: bool) -> None:
    def answer(body: dict[str, Any]) -> Answer:
        bad = [name for name in ("user", "temperature") if name in body]
        return refusal("No.", bad[0] if with_param else None, status=422) if bad else Answer()

    fake.rule = answer
    found = diagnose(server, asked(), "tiny")
    assert sorted(found.named(Outcome.REFUSED)) == ["temperature", "user"]
    assert outcomes(found)["tools"] is Outcome.ACCEPTED


@pytest.mark.parametrize("with_param", [True, False])
def test_a_field_in_a_field_is_found(server: Server, fake: FakeServer, with_param: bool) -> None:
    def answer(body: dict[str, Any]) -> Answer:
        bad = any("strict" in tool["function"] for tool in body.get("tools", ()))
        return refusal("No.", "tools[0].function.strict" if with_param else None) if bad else Answer()

    fake.rule = answer
    found = diagnose(server, asked(), "tiny")
    assert found.named(Outcome.REFUSED) == ["tools[].function.strict"]
    assert outcomes(found)["tools"] is Outcome.ACCEPTED


def test_a_field_is_not_found_by_what_empties_it(server: Server, fake: FakeServer) -> None:
    fake.rule = refuse("stream_options", with_param=False)
    request = asked({"model": "MODEL", "messages": [], "stream_options": {"include_usage": False}})
    assert diagnose(server, request, "tiny").named(Outcome.REFUSED) == ["stream_options"]


@pytest.mark.parametrize("with_param", [True, False])
def test_what_belongs_to_a_refused_field_is_untried(server: Server, fake: FakeServer, with_param: bool) -> None:
    def answer(body: dict[str, Any]) -> Answer:
        if "tools" in body:
            return refusal("No tools.", "tools" if with_param else None)
        return refusal("tool_choice needs tools", "tool_choice") if "tool_choice" in body else Answer()

    fake.rule = answer
    found = diagnose(server, asked(), "tiny")
    assert found.named(Outcome.REFUSED) == ["tools"]
    assert outcomes(found)["tool_choice"] is Outcome.UNTRIED


def test_a_message_cannot_be_left_out(server: Server, fake: FakeServer) -> None:
    fake.rule = lambda _: refusal("Unknown role.", "messages[0].role")
    found = diagnose(server, asked(), "tiny")
    assert found.problem == "400 Unknown role."
    assert set(outcomes(found).values()) == {Outcome.UNTRIED}


def test_a_field_of_a_message_can(server: Server, fake: FakeServer) -> None:
    def answer(body: dict[str, Any]) -> Answer:
        return refusal("No names.", "messages[0].name") if "name" in body["messages"][0] else Answer()

    fake.rule = answer
    found = diagnose(server, asked(), "tiny")
    assert found.named(Outcome.REFUSED) == ["messages[].name"]
    assert not found.problem


def test_the_callers_own_names_are_not_fields(server: Server, fake: FakeServer) -> None:
    fake.rule = lambda body: refusal("No.", "metadata.team") if "metadata" in body else Answer()
    found = diagnose(server, asked({**CHAT, "metadata": {"team": "blue"}}), "tiny")
    assert found.named(Outcome.REFUSED) == ["metadata"]


def test_our_limit_is_not_the_clients(server: Server, fake: FakeServer) -> None:
    fake.rule = refuse("max_tokens", with_param=True)
    found = diagnose(server, asked(), "tiny")
    assert found.is_good
    assert "max_tokens" not in outcomes(found)


@pytest.mark.parametrize("status", [404, 500, 429, 503])
def test_a_server_that_answers_nothing_is_a_problem(server: Server, fake: FakeServer, status: int) -> None:
    fake.rule = lambda _: refusal("It is broken.", status=status)
    found = diagnose(server, asked(), "tiny")
    assert found.problem == f"{status} It is broken."
    assert not found.named(Outcome.REFUSED)


STREAMED = asked({"model": "MODEL", "messages": [], "stream": True, "stream_options": {"include_usage": True}})
TEXT: dict[str, Any] = {"choices": [{"delta": {"content": "Hi"}}]}
USAGE: dict[str, Any] = {"choices": [], "usage": {"completion_tokens": 1}}


def test_a_whole_stream(server: Server, fake: FakeServer) -> None:
    fake.rule = lambda _: stream(TEXT, USAGE)
    found = diagnose(server, STREAMED, "tiny")
    assert found.is_good
    assert outcomes(found)["stream_options.include_usage"] is Outcome.ACCEPTED


def test_a_stream_without_usage(server: Server, fake: FakeServer) -> None:
    fake.rule = lambda _: stream(TEXT)
    assert diagnose(server, STREAMED, "tiny").named(Outcome.IGNORED) == ["stream_options.include_usage"]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (stream(TEXT, end=b""), "the stream broke off before its end"),
        (stream(TEXT, {"error": {"message": "out of memory"}}), "the stream ended with an error: out of memory"),
        (
            stream({"type": "response.failed", "error": "no\x1b[2J\nroom"}),
            "the stream ended with an error: no [2J room",
        ),
        (stream(end=b"data: {\n\n"), "an event of the stream is no JSON object"),
        (stream(end=b"data: []\n\n"), "an event of the stream is no JSON object"),
        (Answer(content=b"<html>"), "the stream broke off before its end"),
    ],
)
def test_a_stream_that_breaks(server: Server, fake: FakeServer, answer: Answer, problem: str) -> None:
    fake.rule = lambda _: answer
    found = diagnose(server, STREAMED, "tiny")
    assert found.problem == problem
    assert not found.is_good


@pytest.mark.parametrize("request_", [asked(), STREAMED])
@pytest.mark.parametrize("drips", [False, True])
def test_a_server_that_hangs(server: Server, fake: FakeServer, request_: RecordedRequest, drips: bool) -> None:
    fake.rule = lambda _: Answer(content=b"data: {}\n\n", kind="text/event-stream", hangs=not drips, drips=drips)
    found = diagnose(replace(server, timeout_s=0.2), request_, "tiny")
    assert found.problem == "no whole answer within 0.2 s"


@pytest.mark.parametrize(
    ("path", "event"),
    [
        ("/v1/responses", {"type": "response.completed"}),
        ("/v1/messages?beta=true", {"type": "message_stop"}),
        ("/api/chat", {"done": True}),
    ],
)
def test_streams_of_other_dialects_have_ends_of_their_own(
    server: Server, fake: FakeServer, path: str, event: dict[str, Any]
) -> None:
    request = asked({"model": "MODEL", "stream": True}, path)
    fake.rule = lambda _: stream(event, end=b"")
    assert diagnose(server, request, "tiny").is_good
    fake.rule = lambda _: stream(TEXT)
    assert not diagnose(server, request, "tiny").is_good


def test_answers_that_are_not_json(server: Server, fake: FakeServer) -> None:
    fake.rule = lambda _: Answer(content=b"<html>")
    assert diagnose(server, asked(), "tiny").problem == "the answer is not JSON"


def test_the_key_is_sent_and_not_shown(server: Server, fake: FakeServer) -> None:
    fake.rule = lambda _: refusal("Incorrect API key provided: secret-key.", status=401)
    with pytest.raises(Unauthenticated, match=r"provided: \*\*\*\.\); --api-key-file"):
        diagnose(replace(server, key="secret-key"), asked(), "tiny")
    assert fake.headers[0]["authorization"] == "Bearer secret-key"
    versioned = RecordedRequest("m", "POST", "/v1/messages", {"model": "MODEL"}, {"anthropic-version": "2023-06-01"})
    with pytest.raises(Unauthenticated):
        diagnose(replace(server, key="secret-key"), versioned, "tiny")
    assert fake.headers[1]["x-api-key"] == "secret-key"
    assert "authorization" not in fake.headers[1]


@pytest.mark.parametrize("url", ["http://me:secret@127.0.0.1:1", "127.0.0.1:1", "http://[", "http://127.0.0.1:99999"])
def test_nobody_listens(server: Server, url: str) -> None:
    with pytest.raises(Unreachable) as caught:
        diagnose(replace(server, url=url), asked(), "tiny")
    assert "secret" not in caught.value.message
    with pytest.raises(Unreachable):
        replace(server, url=url).default_model()


@pytest.mark.parametrize("content", [b"{}", b"[]", b"<html>", b'{"data": [1]}', b'{"data": []}'])
def test_a_server_without_models(server: Server, fake: FakeServer, content: bytes) -> None:
    fake.rule = lambda _: Answer(content=content)
    with pytest.raises(NotFound, match="--model NAME"):
        server.default_model()


def test_the_model_to_ask_generates_text(server: Server, fake: FakeServer) -> None:
    listed = [
        {"id": "a", "kind": "infer", "loaded": True},
        {"id": "b", "kind": "generate"},
        {"id": "c", "loaded": True},
    ]
    fake.rule = lambda _: Answer(content=json.dumps({"data": listed}).encode())
    assert server.default_model() == "c"


def test_a_list_of_models_that_needs_a_key(server: Server, fake: FakeServer) -> None:
    fake.rule = lambda _: refusal("No key.", status=401)
    with pytest.raises(Unauthenticated, match="--api-key-file FILE gives one"):
        server.default_model()


def test_requests_without_a_body(server: Server, fake: FakeServer) -> None:
    fake.rule = lambda _: Answer()
    assert diagnose(server, RecordedRequest("one model", "GET", "/v1/models/MODEL"), "tiny").is_good
    assert fake.paths == ["/v1/models/tiny"]
    fake.rule = lambda _: refusal("No such path.", status=404)
    assert diagnose(server, RecordedRequest("models", "GET", "/v1/models"), "tiny").problem == "404 No such path."
