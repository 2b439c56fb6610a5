"""`infermesh doctor` against a server whose answers the test chooses."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from libs.client.tests.cli.conftest import RunCommand
from libs.client.tests.doctor.fake_server import DONE, MESH, Answer, FakeServer, fake_server, refusal, stream

CLIENT = "langchain-openai"


@pytest.fixture
def fake() -> Iterator[FakeServer]:
    with fake_server() as server:
        server.rule = answer_well
        yield server


def answer_well(body: dict[str, Any]) -> Answer:
    """Lists two models, of which the second is loaded, and takes everything."""
    if not body:
        models = [{"id": "first", "object": "model"}, {"id": "second", "object": "model", "loaded": True}]
        return Answer(content=json.dumps({"data": models}).encode())
    return stream({"choices": []}, end=DONE) if body.get("stream") else Answer()


def refuse_tools(body: dict[str, Any]) -> Answer:
    return refusal("No tools here.", "tools") if "tools" in body else answer_well(body)


def test_the_clients_are_listed(infermesh: RunCommand) -> None:
    result = infermesh("doctor")
    assert result.exit_code == 0
    assert any({"anthropic", "7"} <= set(line.split()) for line in result.stdout.splitlines())
    (row,) = [row for row in json.loads(infermesh("doctor", "--json").stdout) if row["client"] == CLIENT]
    assert (row["package"], row["requests"]) == (CLIENT, 4)


def test_a_client_that_gets_what_it_wants(infermesh: RunCommand, fake: FakeServer) -> None:
    result = infermesh("doctor", CLIENT, "--url", fake.url)
    assert result.exit_code == 0
    assert "Asking second at" in result.stdout
    assert "refused" not in result.stdout
    assert result.stdout.splitlines()[-1].startswith(f"{CLIENT}: 4 requests; fields: ")
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_a_client_that_is_refused(infermesh: RunCommand, fake: FakeServer) -> None:
    fake.rule = refuse_tools
    result = infermesh("doctor", CLIENT, "--url", fake.url)
    assert result.exit_code == 1
    assert any(line.split() == ["tools", "refused", "No", "tools", "here."] for line in result.stdout.splitlines())


def test_json(infermesh: RunCommand, fake: FakeServer) -> None:
    fake.rule = refuse_tools
    result = infermesh("doctor", CLIENT, "--url", fake.url, "--model", "tiny", "--json")
    assert result.exit_code == 1
    document = json.loads(result.stdout)
    assert (document["url"], document["model"]) == (fake.url, "tiny")
    (client,) = document["clients"]
    assert client["fields"]["refused"] == 1
    (request,) = [each for each in client["requests"] if each["title"] == "chat with a tool"]
    assert {"field": "tools", "outcome": "refused", "note": "No tools here."} in request["fields"]
    assert request["by_default"] is True


def test_what_its_user_asks_for_may_be_refused(infermesh: RunCommand, fake: FakeServer) -> None:
    fake.rule = lambda body: refusal("No.", "logit_bias") if "logit_bias" in body else _any_dialect(body)
    result = infermesh("doctor", "openai", "--url", fake.url, "--json")
    assert json.loads(result.stdout)["clients"][0]["fields"]["refused"] == 1
    assert result.exit_code == 0


def _any_dialect(body: dict[str, Any]) -> Answer:
    return stream({"type": "response.completed"}) if body.get("stream") else answer_well(body)


def test_no_connection(infermesh: RunCommand) -> None:
    assert infermesh("doctor", CLIENT, "--url", "http://127.0.0.1:1").exit_code == 2
    result = infermesh("doctor", CLIENT)
    assert result.exit_code == 2
    assert "`infermesh up` starts a mesh" in result.stderr


def test_unknown_clients(infermesh: RunCommand) -> None:
    result = infermesh("doctor", "nobody")
    assert result.exit_code == 1
    assert "there are: anthropic," in result.stderr


def test_the_key_of_the_mesh_goes_nowhere_else(
    infermesh: RunCommand, fake: FakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFERMESH_API_KEY", "key-of-the-mesh")
    assert infermesh("doctor", CLIENT, "--url", fake.url).exit_code == 0
    assert not any("authorization" in headers for headers in fake.headers)
    file = tmp_path / "key"
    file.write_text("key-in-a-file\n")
    fake.headers.clear()
    result = infermesh("doctor", CLIENT, "--url", fake.url, "--api-key-file", str(file))
    assert {headers["authorization"] for headers in fake.headers} == {"Bearer key-in-a-file"}
    assert "key-in-a-file" not in result.output
    fake.headers.clear()
    monkeypatch.setenv("INFERMESH_HTTP_PORT", str(fake.server_address[1]))
    fake.rule = lambda body: Answer(headers=MESH, content=answer_well(body).content)
    infermesh("doctor", "ollama")
    assert {headers["authorization"] for headers in fake.headers} == {"Bearer key-of-the-mesh"}


@pytest.mark.parametrize("content", [b"", b"two\nlines", "schl\u00fcssel".encode(), b"\xff"])
def test_files_that_hold_no_key(infermesh: RunCommand, fake: FakeServer, tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    result = infermesh("doctor", CLIENT, "--url", fake.url, "--api-key-file", str(file))
    assert result.exit_code == 1
    assert "key" in result.stderr
    assert not fake.bodies


@pytest.mark.parametrize(("key", "sent"), [("abc-key ", True), ("abc-key\n", True), ("abc\nkey", False), (" ", False)])
def test_keys_in_the_environment_are_checked_as_those_in_files(
    infermesh: RunCommand, fake: FakeServer, monkeypatch: pytest.MonkeyPatch, key: str, sent: bool
) -> None:
    monkeypatch.setenv("INFERMESH_API_KEY", key)
    monkeypatch.setenv("INFERMESH_HTTP_PORT", str(fake.server_address[1]))
    result = infermesh("doctor", CLIENT, "--model", "second")
    assert "abc" not in result.output
    assert {headers["authorization"] for headers in fake.headers} == ({"Bearer abc-key"} if sent else set())
    assert result.exit_code == (0 if sent else 1)
    assert ("INFERMESH_API_KEY must hold one API key" in result.stderr) is not sent
