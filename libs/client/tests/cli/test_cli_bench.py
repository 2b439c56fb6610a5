"""`infermesh bench` against a server whose answers the test chooses."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from infermesh_client.bench.figures import Level
from infermesh_client.bench.streams import Load, measure
from infermesh_client.cli.measure import bench
from libs.client.tests.cli.conftest import RunCommand
from libs.client.tests.doctor.fake_server import DONE, Answer, FakeServer, fake_server, refusal, stream

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
    assert any({"TTFT", "p50", "p99", "tokens/s", "errors"} <= set(line.split()) for line in table)
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


def test_what_was_measured_before_ctrl_c_is_shown(
    infermesh: RunCommand, fake: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def interrupted(client: httpx.AsyncClient, load: Load, streams: int, on_end: Callable[[], None]) -> Level:
        if streams == 2:
            raise KeyboardInterrupt
        return await measure(client, load, streams, on_end)

    monkeypatch.setattr(bench, "measure", interrupted)
    result = infermesh("bench", "--url", fake.url, "--streams", "1,2", "--requests", "1")
    assert (result.exit_code, "interrupted" in result.stderr) == (130, True)
    (level,) = json.loads(result.stdout.splitlines()[-1])["levels"]
    assert (level["streams"], level["tokens"]) == (1, 5)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (stream(*PIECES, end=b""), "the stream broke off before its end"),
        (stream({"error": {"message": "The device is gone."}}), "The device is gone."),
        (Answer(content=b"data: 7\n\n", kind="text/event-stream"), "not of OpenAI's shape"),
        (Answer(content=b"data: {\n\n", kind="text/event-stream"), "JSONDecodeError"),
        (Answer(content=b"data: " + b"[" * 200_000 + b"\n\n", kind="text/event-stream"), "not of OpenAI's shape"),
        (Answer(500, b"[" * 200_000), "500: [[["),
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
    assert json.loads(result.stdout.splitlines()[-1])["levels"][0]["tokens"] == len(PIECES)


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
