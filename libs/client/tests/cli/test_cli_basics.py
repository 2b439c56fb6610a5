"""The command as a whole: help, version, and errors as clear messages with an exit code, never a traceback."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest

from infermesh_client.cli.connection import connect
from infermesh_client.mesh.state import MeshState
from infermesh_client.settings import ClientSettings, Home
from infermesh_runtime.errors import Unavailable
from libs.client.tests.cli.conftest import RunCommand, RunningProcesses
from libs.client.tests.conftest import RunningMesh


def test_help_names_every_command(infermesh: RunCommand) -> None:
    result = infermesh("--help")
    assert result.exit_code == 0
    for name in ("up", "down", "status", "drain", "resume", "health", "chat", "models"):
        assert f"│ {name} " in result.output


def test_version(infermesh: RunCommand) -> None:
    assert infermesh("--version").output.startswith("infermesh ")


@pytest.mark.parametrize(
    "arguments",
    [
        ["status"],
        ["status", "--json"],
        ["health"],
        ["health", "--check"],
        ["chat", "hi"],
        ["drain", "a:1"],
        ["models", "load", "m"],
    ],
)
def test_unreachable_mesh_is_one_line_and_exit_1(arguments: list[str], infermesh: RunCommand) -> None:
    result = infermesh(*arguments)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr == "error: nothing answers at 127.0.0.1:1; `infermesh up` starts a mesh\n"


def test_unknown_variable_stops_it(infermesh: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERMESH_HTPP_PORT", "1")
    result = infermesh("status")
    assert result.exit_code == 2
    assert "INFERMESH_HTPP_PORT" in result.stderr


def test_malformed_variable_stops_it(infermesh: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERMESH_GRPC_PORT", "many")
    result = infermesh("status")
    assert result.exit_code == 2
    assert "INFERMESH_GRPC_PORT" in result.stderr


def test_down_when_nothing_runs(infermesh: RunCommand) -> None:
    result = infermesh("down")
    assert (result.exit_code, result.stdout) == (0, "No mesh is running\n")


def test_up_with_an_unknown_worker(infermesh: RunCommand) -> None:
    result = infermesh("up", "--workers", "cpu,tpu")
    assert result.exit_code == 1
    assert "unknown worker 'tpu'; choose from cpu" in result.stderr


def test_up_with_a_model_that_is_not_there(infermesh: RunCommand, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INFERMESH_MODEL", "nope")
    monkeypatch.setattr("infermesh_client.cli.up.check_startable", lambda *_: None)
    result = infermesh("up")
    assert result.exit_code == 1
    assert "no model 'nope' (INFERMESH_MODEL)" in result.stderr


def test_unexpected_error_is_one_line_and_its_traceback_is_kept(
    infermesh: RunCommand, models_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("impossible")

    monkeypatch.setattr("infermesh_client.cli.up.stop_mesh", fail)
    monkeypatch.setattr("infermesh_client.cli.up.drain_s", fail)
    result = infermesh("down")
    assert result.exit_code == 1
    assert "unexpected RuntimeError: impossible" in result.stderr
    assert "Traceback" in (models_root.parent / "log" / "command.log").read_text()


def test_output_to_a_closed_pipe(mesh: RunningMesh, models_root: Path) -> None:
    script = f"{sys.executable} -m infermesh_client.cli.app status --json --endpoint {mesh.address} | true"
    result = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert "Traceback" not in result.stderr


def test_a_lost_worker_that_the_router_tells_of_is_not_a_lost_mesh() -> None:
    told = Unavailable("Endpoint a:1 is lost (failed to connect to all addresses).", reason="ENDPOINT_LOST")
    with pytest.raises(Unavailable, match="Endpoint a:1 is lost"), connect("b:2", ClientSettings(), timeout_s=1):
        raise told


def test_the_mesh_is_found_on_the_port_it_was_started_with(
    mesh: RunningMesh, infermesh: RunCommand, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = MeshState(http="", grpc=mesh.address, router="", workers=[], metrics={}, envoy_admin="", model="")
    run = Home.of(ClientSettings()).run
    run.mkdir(parents=True)
    (run / "mesh.json").write_text(json.dumps(asdict(state)))
    assert infermesh("health").exit_code == 1  # the port that is set counts
    monkeypatch.delenv("INFERMESH_GRPC_PORT")
    assert infermesh("health").exit_code == 0


@pytest.mark.parametrize("arguments", [["status"], ["explain"], ["ui"], ["doctor", "openai"]], ids=" ".join)
def test_a_mesh_that_starts_is_not_said_to_be_missing(
    arguments: list[str], infermesh: RunCommand, running: RunningProcesses
) -> None:
    running("router")
    result = infermesh(*arguments)
    assert "the mesh is still starting, or its router is down" in result.stderr
    assert "starts a mesh" not in result.stderr
