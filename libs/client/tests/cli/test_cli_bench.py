"""`infermesh bench` against a server whose answers the test chooses."""

import json
import signal
import ssl
import threading
import time
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import trustme

from libs.client.tests.cli.conftest import OpenTerminal, RunCommand
from libs.client.tests.doctor.fake_server import DONE, Answer, FakeServer, fake_server, refusal, stream, timed_stream

PIECES = [{"choices": [{"delta": {"content": "a"}}]}, {"choices": [{"delta": {"reasoning_content": "b"}}]}]
USAGE = {"choices": [], "usage": {"completion_tokens": 5}}


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with fake_server() as server:
        server.rule = answer
        yield server


def answer(body: dict[str, Any]) -> Answer:
    if not body:
        return Answer(content=json.dumps({"data": [{"id": "m", "object": "model"}]}).encode())
    return stream({"choices": [{"delta": {"role": "assistant"}}]}, *PIECES, USAGE, end=DONE)


def test_a_table_and_one_line_of_json(infermesh: RunCommand, fake: FakeServer) -> None:
    result = infermesh("bench", "--url", fake.url, "--streams", "1,3", "--requests", "2", "--max-tokens", "9")
    assert result.exit_code == 0, result.output
    *table, last = result.stdout.splitlines()
    assert table[0] == f"m at {fake.url}: 2 requests a stream, at most 9 tokens each"
    assert any({"TTFT", "ITL", "TPOT", "p50", "p99", "tokens/s", "errors"} <= set(line.split()) for line in table)
    assert max(map(len, table)) <= 80
    document = json.loads(last)
    assert (document["model"], document["url"]) == ("m", fake.url)
    one, three = document["levels"]
    assert (one["requests"], one["tokens"], one["errors"]) == (2, 10, 0)
    assert (three["streams"], three["requests"], three["tokens"]) == (3, 6, 30)
    assert 0 < one["ttft_ms_p50"] <= one["ttft_ms_p99"]
    asked = [body for body in fake.bodies if body][1:]  # the first one loads the model
    assert {(body["model"], body["max_tokens"], body["stream"]) for body in asked} == {("m", 9, True)}
    assert len({json.dumps(body["messages"]) for body in asked}) == 8  # no prefix cache answers


def test_errors_are_counted_and_shown(infermesh: RunCommand, fake: FakeServer) -> None:
    seen = iter(range(100))

    def every_other(body: dict[str, Any]) -> Answer:
        return refusal("The queue is full.", status=429) if body and next(seen) % 2 else answer(body)

    fake.rule = every_other
    result = infermesh("bench", "--url", fake.url, "--streams", "1", "--requests", "4")
    (level,) = json.loads(result.stdout.splitlines()[-1])["levels"]
    assert (result.exit_code, level["requests"], level["errors"]) == (0, 4, 2)
    assert "429: The queue is full." in result.stderr
    assert "2 of 4" in result.stdout


def test_what_was_measured_before_ctrl_c_is_shown(fake: FakeServer, open_terminal: OpenTerminal) -> None:
    asked = count()
    silent = Answer(content=b"", kind="text/event-stream", hangs=True)
    reached = threading.Event()
    begun_s: list[float] = []

    def fourth_is_silent(body: dict[str, Any]) -> Answer:
        begun_s.append(time.monotonic())
        if not body or next(asked) < 4:  # one loads, one is the first level, two are half of the second
            return answer(body)
        reached.set()
        return silent

    fake.rule = fourth_is_silent
    terminal = open_terminal("bench", "--url", fake.url, "--streams", "1,4", "--requests", "1")
    assert reached.wait(30)
    terminal.read_until("2/4")
    two_ended_s = time.monotonic()
    assert not threading.Event().wait(1.0)  # time in which no request ends
    terminal.process.send_signal(signal.SIGINT)
    seen = terminal.read_until("error: interrupted")
    assert terminal.wait() == 130
    assert "\x1b[?25h" in seen  # the cursor is shown again
    document = json.loads(next(line for line in seen.splitlines() if line.startswith("{")))
    assert [(level["streams"], level["requests"], level["tokens"]) for level in document["levels"]] == [
        (1, 1, 5),
        (4, 2, 10),
    ]
    assert document["interrupted"] is True
    first_level_begun_s = begun_s[2]  # after the list of models and the request that loads
    assert document["levels"][1]["wall_s"] <= two_ended_s - first_level_begun_s, "until the last request that ended"


def test_ctrl_c_before_anything_was_measured(fake: FakeServer, open_terminal: OpenTerminal) -> None:
    reached = threading.Event()

    def silent(body: dict[str, Any]) -> Answer:
        if body:
            reached.set()
            return Answer(content=b"", hangs=True)
        return answer(body)

    fake.rule = silent
    terminal = open_terminal("bench", "--url", fake.url)
    assert reached.wait(30)
    terminal.process.send_signal(signal.SIGINT)
    assert "{" not in terminal.read_until("error: interrupted")
    assert terminal.wait() == 130


ROUNDED_MS = 1.0
"""What rounding takes from a sum of figures, or adds to it."""
TEXT = {"choices": [{"delta": {"content": "a"}}]}
ROLE = {"choices": [{"delta": {"role": "assistant", "content": ""}}]}


def test_figures_are_those_of_the_servers_schedule(infermesh: RunCommand, fake: FakeServer) -> None:
    """The first text after 0.2 s, then four pieces of two tokens each, 0.1 s apart: 9 tokens in 0.6 s."""
    told = {"choices": [], "usage": {"completion_tokens": 9}}
    schedule = timed_stream((0.05, ROLE), (0.15, TEXT), *[(0.1, TEXT)] * 4, (0.0, told))
    asked, together = count(), threading.Barrier(2)

    def scheduled(body: dict[str, Any]) -> Answer:
        if not body:
            return answer(body)
        if next(asked) >= 2:  # one loads, one is the first level
            together.wait(30)
        return schedule

    fake.rule = scheduled
    result = infermesh("bench", "--url", fake.url, "--streams", "1,2", "--requests", "1")
    one, two = json.loads(result.stdout.splitlines()[-1])["levels"]
    for level in (one, two):
        assert (level["tokens"], level["errors"], level["counted"]) == (9 * level["streams"], 0, True)
        assert level["ttft_ms_p50"] >= 200
        assert level["wall_s"] >= 0.6
        assert level["tokens_per_s"] == pytest.approx(level["tokens"] / level["wall_s"], rel=0.01)
    # A busy machine sees a piece late, never early, so only sums of these times have limits
    first_to_last_ms = 8 * one["tpot_ms_p50"]
    assert one["ttft_ms_p50"] + first_to_last_ms >= 600 - ROUNDED_MS
    assert one["ttft_ms_p50"] + first_to_last_ms <= one["wall_s"] * 1e3 + ROUNDED_MS
    assert first_to_last_ms / 4 <= one["itl_ms_p99"] + ROUNDED_MS, "the longest of the four gaps"
    assert 0 < one["itl_ms_p50"] <= one["itl_ms_p99"] <= first_to_last_ms + ROUNDED_MS
    assert "pieces of text count" not in result.stdout


@pytest.mark.parametrize("name", ["reasoning_content", "reasoning"])
def test_reasoning_is_text(infermesh: RunCommand, fake: FakeServer, name: str) -> None:
    thought = {"choices": [{"delta": {name: "hm"}}]}
    schedule = timed_stream((0.0, ROLE), (0.0, thought), (0.3, TEXT))
    fake.rule = lambda body: schedule if body else answer(body)
    result = infermesh("bench", "--url", fake.url, "--streams", "1", "--requests", "1")
    (level,) = json.loads(result.stdout.splitlines()[-1])["levels"]
    assert level["tokens"] == 2
    assert (
        level["ttft_ms_p50"] + level["itl_ms_p50"] >= 300 - ROUNDED_MS
    )  # late or not, the second one comes after 0.3 s


@pytest.mark.parametrize(
    ("refused", "left"),
    [
        ("Unrecognized request argument supplied: stream_options", {"max_tokens", "temperature"}),
        ("'max_tokens' is not supported with this model", {"max_completion_tokens", "temperature", "stream_options"}),
        ("'temperature' does not support 0 with this model", {"max_tokens", "stream_options"}),
    ],
)
def test_a_server_that_refuses_a_field_is_asked_without(
    infermesh: RunCommand, fake: FakeServer, refused: str, left: set[str]
) -> None:
    fields = {"stream_options", "max_tokens", "temperature"}

    def picky(body: dict[str, Any]) -> Answer:
        return refusal(refused) if any(name in refused for name in fields & set(body)) else answer(body)

    fake.rule = picky
    result = infermesh("bench", "--url", fake.url, "--streams", "1", "--requests", "1")
    assert result.exit_code == 0, result.output
    assert set(fake.bodies[-1]) - {"model", "messages", "stream"} == left


def test_a_base_model_continues_texts(infermesh: RunCommand, fake: FakeServer) -> None:
    refused = refusal("Model 'm' has no chat template, so it is a base model. Ask it to continue a text instead.")
    fake.rule = lambda body: refused if "messages" in body else answer(body)
    result = infermesh("bench", "--url", fake.url, "--streams", "1", "--requests", "1")
    assert result.exit_code == 0, result.output
    assert fake.paths[-1] == "/v1/completions"
    fake.rule = lambda body: refused if body else answer(body)
    assert infermesh("bench", "--url", fake.url).exit_code == 1  # and not asked for ever


def test_a_silent_server(infermesh: RunCommand, fake: FakeServer) -> None:
    fake.rule = lambda body: Answer(content=b"", hangs=True) if body else answer(body)
    result = infermesh("bench", "--url", fake.url, "--timeout-s", "0.2")
    assert (result.exit_code, "it was silent for 0.2 s; --timeout-s waits longer" in result.stderr) == (1, True)


def test_a_key_that_is_wanted(infermesh: RunCommand, fake: FakeServer) -> None:
    fake.rule = lambda body: refusal("Who are you?", status=401)
    for arguments in ((), ("--model", "m")):
        result = infermesh("bench", "--url", fake.url, *arguments)
        assert (result.exit_code, "--api-key-file FILE gives" in result.stderr) == (1, True)


def test_a_certificate_that_is_not_trusted(
    infermesh: RunCommand, fake: FakeServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ca = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert("127.0.0.1").configure_cert(context)
    fake.speak_tls(context)
    for arguments in ((), ("--model", "m")):
        result = infermesh("bench", "--url", fake.url, *arguments)
        assert (result.exit_code, "INFERMESH_TLS_CA names the file of the CA" in result.stderr) == (1, True)
    ca.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("INFERMESH_TLS_CA", str(tmp_path / "ca.pem"))
    assert infermesh("bench", "--url", fake.url, "--streams", "1").exit_code == 0


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (stream(*PIECES, end=b""), "the stream broke off before its end"),
        (stream({"error": {"message": "The device is gone."}}), "The device is gone."),
        (Answer(content=b"data: 7\n\n", kind="text/event-stream"), "not of OpenAI's shape"),
        (Answer(content=b"data: {\n\n", kind="text/event-stream"), "JSONDecodeError"),
        (Answer(content=b"data: " + b"[" * 200_000 + b"\n\n", kind="text/event-stream"), "not of OpenAI's shape"),
        (Answer(500, b"[" * 200_000), "500: [[["),
        (Answer(content=b"<html>Hello</html>", kind="text/html; charset=utf-8"), "but text/html; is the URL that of"),
        (refusal("The model 'm' does not exist.", status=404), "404: The model 'm' does not exist."),
        (refusal("Slow down.", status=429), "429: Slow down."),
        (refusal("'max_tokens' is bad"), "400: 'max_tokens' is bad"),
        (stream({"usage": "many"}), "not of OpenAI's shape"),
    ],
)
def test_a_server_that_gives_no_whole_answer(
    infermesh: RunCommand, fake: FakeServer, broken: Answer, said: str
) -> None:
    fake.rule = lambda body: broken if body else answer(body)
    result = infermesh("bench", "--url", fake.url)
    assert result.exit_code == 1
    assert "does not answer for 'm'" in result.stderr
    assert said in result.stderr


@pytest.mark.parametrize("tokens", ["many", [5], True, 2.5, -5, 10**400, None])
def test_pieces_are_counted_where_the_server_gives_no_number(
    infermesh: RunCommand, fake: FakeServer, tokens: object
) -> None:
    fake.rule = lambda body: stream(*PIECES, {"usage": {"completion_tokens": tokens}}) if body else answer(body)
    result = infermesh("bench", "--url", fake.url, "--streams", "1", "--requests", "1")
    assert result.exit_code == 0, result.output
    (level,) = json.loads(result.stdout.splitlines()[-1])["levels"]
    assert (level["tokens"], level["counted"]) == (len(PIECES), False)
    assert "pieces of text count as tokens" in result.stdout


KEY = "sk-0123456789abcdef"


@pytest.mark.parametrize(
    "broken",
    [
        refusal(f"bad \x1b[31mkey {KEY}", status=401),
        refusal("x" * 290 + KEY, status=500),  # masked before it is cut
        Answer(500, f"bad key {KEY}".encode()),
        Answer(500, json.dumps({"told": [KEY]}).replace("-", r"\u002d").encode()),
        stream({"error": {"message": f"bad \x1b[31mkey {KEY}"}}),
        stream({"error": f"bad \x9b31mkey {KEY}"}),
        stream({"error": {"message": {"key": KEY}}}),
    ],
)
def test_neither_the_key_nor_escape_codes_are_shown(
    infermesh: RunCommand, fake: FakeServer, tmp_path: Path, broken: Answer
) -> None:
    (tmp_path / "key").write_text(KEY)
    fake.rule = lambda body: broken if body else answer(body)
    result = infermesh("bench", "--url", fake.url, "--api-key-file", str(tmp_path / "key"))
    assert (result.exit_code, fake.headers[-1]["authorization"]) == (1, f"Bearer {KEY}")
    assert "does not answer for 'm'" in result.stderr
    assert "***" in result.stderr or "xxx" in result.stderr
    assert not any(hidden in result.stderr for hidden in ("sk-", "0123", "\x1b", "\x9b"))


@pytest.mark.parametrize("streams", ["", "0", "1,x", "99999999"])
def test_bad_numbers_of_streams(infermesh: RunCommand, streams: str) -> None:
    result = infermesh("bench", "--streams", streams)
    assert (result.exit_code, "--streams must be numbers" in result.stderr) == (1, True)
