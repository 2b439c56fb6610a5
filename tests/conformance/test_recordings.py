"""What clients send by default: the recordings are what they send now, and the mesh does with it what they say.

`python -m tests.conformance.recording.record tests.conformance.recording.calls` records these clients again.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from typer.testing import CliRunner

from infermesh_client.cli.app import app
from infermesh_client.doctor.diagnosis import Outcome, diagnose
from infermesh_client.doctor.recording import RecordedRequest, client_names, load_recording
from infermesh_client.doctor.server import Server
from tests.conformance.recording import calls
from tests.conformance.recording.record import Client, path_of, record, without_expectations
from tests.conformance.tool_model import HERMES
from tests.e2e.mesh import SIMULATED, Mesh, NewMesh

pytestmark = pytest.mark.timeout(120)

MODEL = "simulated"
REQUESTS = [(name, request) for name in client_names() for request in load_recording(name).requests]


@dataclass(frozen=True)
class Asked:
    """A mesh, and doctor's connection to it."""

    mesh: Mesh
    server: Server


@pytest.fixture(scope="module")
def asked(new_mesh: NewMesh) -> Iterator[Asked]:
    """Its model takes tools, and takes no time: what it says does not matter here."""
    worker = {"sim_chat_template": HERMES, "sim_itl_s": 0, "sim_slope_s": 0}
    made = new_mesh([(SIMULATED, worker)])
    made.start()
    made.wait_ready()
    with made.http() as client:
        yield Asked(made, Server(client, made.envoy.http, timeout_s=60))


@pytest.mark.parametrize(("client", "request_"), REQUESTS, ids=[f"{name}: {each.title}" for name, each in REQUESTS])
def test_the_mesh_does_what_the_recording_says(asked: Asked, client: str, request_: RecordedRequest) -> None:
    found = diagnose(asked.server, request_, MODEL)
    expected = request_.expected
    assert (found.status, found.problem) == (expected.status, "")
    assert sorted(found.named(Outcome.IGNORED)) == sorted(expected.ignored)
    assert sorted(found.named(Outcome.REFUSED)) == sorted(expected.refused)
    assert not found.named(Outcome.UNTRIED)


def test_the_command(asked: Asked) -> None:
    result = CliRunner().invoke(app, ["doctor", "openai-agents", "--url", asked.mesh.envoy.http, "--json"])
    assert result.exit_code == 0, result.output
    (client,) = json.loads(result.stdout)["clients"]
    assert client["fields"]["ignored"] == 2
    assert client["fields"]["refused"] == 0


@pytest.mark.parametrize("client", calls.CLIENTS, ids=[client.name for client in calls.CLIENTS])
def test_the_recordings_are_what_clients_send_now(client: Client) -> None:
    kept = without_expectations(json.loads(path_of(client.name).read_text(encoding="utf-8")))
    assert record(client)["requests"] == kept["requests"]
