"""`infermesh explain` against a server that answers as MeshService does."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from infermesh_client.mesh.manage_key import own_manage_key
from libs.client.tests.cli.conftest import RunCommand
from libs.client.tests.cli.test_cli_top import own_mesh
from libs.client.tests.doctor.fake_server import Answer, FakeServer, fake_server, refusal

RECEIPT: dict[str, Any] = {
    "request_id": "chatcmpl-1",
    "call": "Generate",
    "model": "tiny",
    "alias": "small",
    "status": "OK",
    "endpoint": "10.0.0.1:7",
    "device": "xpu",
    "reason": "least_seconds_to_drain",
    "score": 0.91,
    "seconds": 0.84,
    "runners_up": [{"endpoint": "10.0.0.2:7", "score": 0.2, "seconds": 4.1}, {"endpoint": "10.0.0.3:7"}],
    "queued_ms": 12,
    "loading_ms": 7,
    "overhead_ms": 0.34,
    "first_token_ms": 140,
    "prefill_ms": 101,
    "decode_ms": 900,
    "total_ms": 1234,
    "prompt_tokens": 12,
    "completion_tokens": 45,
    "cached_tokens": 8,
    "sampling": [
        {"name": "temperature", "value": 0.2, "source": "request"},
        {"name": "top_p", "value": 0.95, "source": "built-in"},
    ],
    "seed": "12345678901234567890",
    "ignored_fields": ["user"],
    "failovers": [
        {
            "from_endpoint": "10.0.0.1:7",
            "to_endpoint": "10.0.0.2:7",
            "reason": "STREAM_CUT",
            "after_tokens": 9,
            "at_ms": 500,
        }
    ],
    "retries": [{"endpoint": "10.0.0.3:7", "reason": "refused"}],
    "finish_reasons": ["stop"],
    "of_a_later_version": 1,
}


@pytest.fixture
def fake(models_root: object, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeServer]:
    with fake_server() as server:
        monkeypatch.setenv("INFERMESH_HTTP_PORT", str(server.server_address[1]))
        server.rule = lambda _: Answer(content=json.dumps(RECEIPT).encode())
        yield server


def test_a_receipt_says_who_answered_and_why(infermesh: RunCommand, fake: FakeServer) -> None:
    result = infermesh("explain", "chatcmpl-1")
    assert result.exit_code == 0, result.output
    assert fake.paths == ["/mesh/v1/requests/chatcmpl-1"]
    assert max(map(len, result.stdout.splitlines())) <= 80
    said = " ".join(result.stdout.split())
    for part in (
        "chatcmpl-1 OK",
        "tiny, by its alias small",
        "sent to xpu at 10.0.0.1:7: expected to finish first (done in 0.8 s, score 0.91)",
        "10.0.0.2:7 (done in 4.1 s, score 0.20)",
        "10.0.0.3:7 (not measured)",
        "10.0.0.3:7: refused",
        "from 10.0.0.1:7 to 10.0.0.2:7 after 9 tokens, 500 ms: stream cut",
        "1234 ms in all · queued 12 ms (loading 7 ms) · router 0.3 ms",
        "first token after 140 ms · prefill 101 ms · decode 900 ms",
        "12 of the prompt (8 cached), 45 generated",
        "temperature 0.2 (request), top_p 0.95 (built-in)",
        "12345678901234567890",
        "ignored user",
        "ended stop",
    ):
        assert part in said


def test_without_an_id_the_newest_are_listed(infermesh: RunCommand, fake: FakeServer) -> None:
    fake.rule = lambda _: Answer(content=json.dumps({"receipts": [RECEIPT, {"request_id": "other"}]}).encode())
    result = infermesh("explain", "--limit", "2")
    assert {"chatcmpl-1", "other", "tiny", "1234"} <= set(result.stdout.split())
    assert "moved from 10.0.0.1:7 to 10.0.0.2:7" in " ".join(result.stdout.split())
    assert fake.paths == ["/mesh/v1/requests?limit=2"]
    assert json.loads(infermesh("explain", "--json").stdout)["receipts"][0]["model"] == "tiny"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(404, b'{"error": {"message": "There is no receipt of x."}}'), "There is no receipt of x."),
        (Answer(403, b'{"message": "Not yours."}'), "Not yours."),
        (Answer(503, b"<html>"), "answers 503"),
        (Answer(503, b"[" * 200_000), "answers 503"),
        (Answer(200, b'{"queued_ms": "much"}'), "answers with what is no receipt"),
    ],
)
def test_what_cannot_be_explained(infermesh: RunCommand, fake: FakeServer, answer: Answer, said: str) -> None:
    fake.rule = lambda _: answer
    result = infermesh("explain", "x")
    assert (result.exit_code, said in result.stderr) == (1, True), result.stderr


@pytest.mark.parametrize("arguments", [("x",), ("x", "--json"), (), ("--json",)])
@pytest.mark.parametrize("content", [b"<html>", b"", b"\xff", b"[" * 200_000])
def test_what_is_no_json_is_no_receipt(
    infermesh: RunCommand, fake: FakeServer, arguments: tuple[str, ...], content: bytes
) -> None:
    fake.rule = lambda _: Answer(200, content)
    result = infermesh("explain", *arguments)
    assert (result.exit_code, "answers with what is no receipt" in result.stderr) == (1, True), result.stderr


def test_the_key_is_sent_and_ids_are_quoted(
    infermesh: RunCommand, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFERMESH_API_KEY", "secret")
    infermesh("explain", "a/b?c")
    assert fake.paths == ["/mesh/v1/requests/a%2Fb%3Fc"]
    assert fake.headers[-1]["authorization"] == "Bearer secret"


def test_what_callers_send_does_nothing_to_the_terminal(infermesh: RunCommand, fake: FakeServer) -> None:
    """Anyone may ask for a model of any name; who looks at the receipts is an operator."""
    hostile = {**RECEIPT, "model": "ti\x1b]52;c;aGk=\x07ny", "ignored_fields": ["\x1b[2J\x9b31mfield"]}
    fake.rule = lambda _: Answer(content=json.dumps(hostile).encode())
    shown = infermesh("explain", "chatcmpl-1").stdout
    assert not {*shown} & {"\x1b", "\x07", "\x9b"}
    assert "ti␛]52;c;aGk=ny" in shown  # rich leaves the bell out


def test_the_owner_of_the_mesh_needs_no_key(infermesh: RunCommand, fake: FakeServer) -> None:
    infermesh("explain", "chatcmpl-1")
    secret = own_manage_key(own_mesh())
    infermesh("explain", "chatcmpl-1")
    others, owners = (headers.get("x-infermesh-manage-key") for headers in fake.headers)
    assert (others, owners) == (None, secret)


def test_who_lacks_a_key_hears_where_the_command_takes_it_from(infermesh: RunCommand, fake: FakeServer) -> None:
    fake.rule = lambda _: refusal("This mesh needs an API key.", status=401)
    assert infermesh("explain").stderr.endswith("needs an API key. The command sends the key in INFERMESH_API_KEY.\n")
