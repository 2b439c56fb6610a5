"""`infermesh status`, `health`, `drain` and `resume` against a real gRPC server."""

import json
import signal

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from infermesh.admin.v1 import admin_pb2
from infermesh.inference.v1 import inference_pb2
from infermesh_client.cli.output.describe import model_row
from libs.client.tests.cli.conftest import OpenTerminal, RunCommand
from libs.client.tests.conftest import RunningMesh


def test_status_once(mesh: RunningMesh, infermesh: RunCommand) -> None:
    result = infermesh("status", "--once", "--endpoint", mesh.address)
    assert result.exit_code == 0
    for word in ("10.0.0.1:7", "cpu", "READY", "tiny", "2 running, 1 waiting", "50%", "123 out"):
        assert word in result.stdout


def test_status_says_what_the_router_did_and_what_waits(
    mesh: RunningMesh, infermesh: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    mesh.servicer.queues = [admin_pb2.ModelQueue(model="tiny", waiting=3, oldest_ms=1234)]
    monkeypatch.setenv("COLUMNS", "120")
    lines = infermesh("status", "--once", "--endpoint", mesh.address).stdout.splitlines()
    assert max(map(len, lines)) <= 120
    routing = {"10.0.0.1:7", "registered", "half-open", "1", "least_loaded", "12", "56", "ms", "0.3", "12.3k", "4"}
    assert any(routing <= set(line.split()) for line in lines)
    assert any("session 3" in line for line in lines)
    assert lines[-1].strip() == "waiting: 3 for tiny (oldest 1.2 s)"
    document = json.loads(infermesh("status", "--json", "--endpoint", mesh.address).stdout)
    assert document["queues"] == [{"model": "tiny", "waiting": 3, "oldest_ms": 1234}]
    (endpoint,) = document["endpoints"]
    assert endpoint["breaker"] == "half-open"
    assert endpoint["choices"] == {"least_loaded": 12, "session": 3}
    assert (endpoint["failovers"], endpoint["source"]) == (4, "registered")
    assert (endpoint["queued_ms"], endpoint["overhead_ms"]) == pytest.approx((56.4, 0.34))


def test_json_says_how_far_a_load_is() -> None:
    loading = inference_pb2.ModelStatus(
        name="tiny", state=inference_pb2.ENDPOINT_STATE_LOADING, load_fraction=0.62, load_left_s=4.7
    )
    assert model_row(loading)["load_left_s"] == pytest.approx(4.7)
    assert model_row(inference_pb2.ModelStatus(name="tiny"))["load_fraction"] is None


def test_status_json(mesh: RunningMesh, infermesh: RunCommand) -> None:
    (endpoint,) = json.loads(infermesh("status", "--json", "--endpoint", mesh.address).stdout)["endpoints"]
    assert endpoint["report"]["state"] == "READY"
    assert endpoint["report"]["load"]["running"] == 2
    mesh.servicer.available = [
        inference_pb2.AvailableModel(name="a", created_at=Timestamp(seconds=1767312000), has_chat_template=False),
        inference_pb2.AvailableModel(name="b"),
    ]
    (endpoint,) = json.loads(infermesh("status", "--json", "--endpoint", mesh.address).stdout)["endpoints"]
    known, unknown = endpoint["report"]["available"]
    assert (known["created_at"], known["has_chat_template"]) == ("2026-01-02T00:00:00Z", False)
    assert (unknown["created_at"], unknown["has_chat_template"]) == (None, None)


def test_status_follows_on_a_terminal(mesh: RunningMesh, open_terminal: OpenTerminal) -> None:
    terminal = open_terminal("status", "--endpoint", mesh.address)
    terminal.read_until("READY")
    terminal.process.send_signal(signal.SIGINT)
    assert terminal.wait() == 0


def test_health_check(mesh: RunningMesh, infermesh: RunCommand) -> None:
    assert infermesh("health", "--check", "--endpoint", mesh.address).exit_code == 0
    mesh.servicer.state = inference_pb2.ENDPOINT_STATE_LOADING
    result = infermesh("health", "--check", "--json", "--endpoint", mesh.address)
    assert (result.exit_code, json.loads(result.stdout)["state"]) == (1, "LOADING")
    assert infermesh("health", "--endpoint", mesh.address).exit_code == 0


def test_drain_and_resume(mesh: RunningMesh, infermesh: RunCommand) -> None:
    result = infermesh("drain", "10.0.0.1:7", "--endpoint", mesh.address)
    assert result.exit_code == 0
    assert "Drained 10.0.0.1:7: no request runs on it." in result.stderr
    result = infermesh("drain", "10.0.0.1:7", "--move-after", "1.5", "--endpoint", mesh.address)
    assert "no request runs on it; 2 streams were moved." in result.stderr
    assert infermesh("resume", "10.0.0.1:7", "--endpoint", mesh.address).exit_code == 0
    waits, moves, resumes = mesh.servicer.orders
    assert not waits.HasField("move_after_s")
    assert moves.move_after_s == 1.5
    assert resumes.address == "10.0.0.1:7"


@pytest.mark.parametrize("command", ["drain", "resume"])
def test_an_unknown_endpoint_is_refused_with_those_there_are(
    command: str, mesh: RunningMesh, infermesh: RunCommand
) -> None:
    result = infermesh(command, "x:1", "--endpoint", mesh.address)
    assert result.exit_code == 1
    assert result.stderr.endswith("error: There is no endpoint 'x:1'; available: 10.0.0.1:7.\n")
