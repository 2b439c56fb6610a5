"""`infermesh up`: what it checks before it downloads, and what it does when the mesh already runs."""

from dataclasses import replace
from pathlib import Path

import pytest

from infermesh_client.mesh.manage_key import own_manage_key
from infermesh_client.mesh.plan import plan_mesh
from infermesh_client.mesh.state import write_state
from infermesh_client.mesh.workers import WorkerSpec
from infermesh_client.settings import ClientSettings, Home
from infermesh_runtime.errors import InfermeshError
from libs.client.tests.cli.conftest import RunCommand, RunningProcesses
from libs.client.tests.conftest import RunningMesh


@pytest.fixture
def running_mesh(
    mesh: RunningMesh, models_root: Path, running: RunningProcesses, monkeypatch: pytest.MonkeyPatch
) -> RunningMesh:
    """A mesh of one worker and the model tiny, which `up` finds running; it was started with INFERMESH_DRAIN_S=7."""
    port = mesh.address.rpartition(":")[2]
    monkeypatch.setenv("INFERMESH_GRPC_PORT", port)
    monkeypatch.setenv("INFERMESH_DRAIN_S", "7")
    settings = ClientSettings()
    plan = plan_mesh(settings, Home.of(settings), [WorkerSpec("cpu")], "tiny")
    write_state(replace(plan, routers=[mesh.address], admins=[mesh.address]), Home.of(settings))
    monkeypatch.delenv("INFERMESH_DRAIN_S")
    running("worker-cpu", "router", "envoy")
    (models_root / "tiny").mkdir(parents=True)
    (models_root / "tiny" / "infermesh.json").touch()
    (models_root / "new").mkdir()
    (models_root / "new" / "infermesh.json").touch()
    return mesh


def test_up_again_changes_nothing(running_mesh: RunningMesh, infermesh: RunCommand) -> None:
    result = infermesh("up")
    assert result.exit_code == 0, result.stderr
    assert "already running" in result.stdout
    assert "10.0.0.1:7" in result.stdout
    assert not running_mesh.servicer.orders


def test_another_model_is_loaded_and_pinned(
    running_mesh: RunningMesh, infermesh: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFERMESH_MODEL", "new")
    monkeypatch.setattr("infermesh_client.cli.running._KNOWN_TIMEOUT_S", 0.2)
    result = infermesh("up")
    assert result.exit_code == 0, result.stderr
    assert "Loaded new" in result.stderr
    (load,) = running_mesh.servicer.orders
    assert (load.model, load.pinned) == ("new", True)


def test_the_same_model_is_only_pinned_if_it_is_not(
    running_mesh: RunningMesh, infermesh: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFERMESH_MODEL", "tiny")
    running_mesh.servicer.pinned = True
    assert infermesh("up").exit_code == 0
    assert not running_mesh.servicer.orders
    running_mesh.servicer.pinned = False
    assert infermesh("up").exit_code == 0
    assert [load.pinned for load in running_mesh.servicer.orders] == [True]


@pytest.mark.parametrize(
    ("variables", "arguments", "problem"),
    [
        ({}, ["--workers", "cpu,xpu:1"], "it runs worker-cpu, without worker-xpu-1"),
        ({}, ["--workers", "cpu:0,cpu:1"], "it runs worker-cpu, without worker-cpu-0, worker-cpu-1"),
        ({}, ["--routers", "2"], "it runs 1 router, not 2"),
        ({"HTTP_PORT": "9"}, [], "it listens on 127.0.0.1:1, and INFERMESH_HTTP_PORT is 9"),
        ({"DRAIN_S": "8"}, [], "INFERMESH_DRAIN_S is not what it was started with"),
        ({"MAX_SEQUENCES": "8"}, [], "INFERMESH_MAX_SEQUENCES is not what it was started with"),
        ({"MODEL": "none"}, [], "asks for a mesh without a model, but this one has tiny"),
        ({"MODEL": "nope"}, [], "there is no model 'nope'"),
    ],
)
def test_what_differs_is_named(  # noqa: PLR0917 - fixtures and cases
    variables: dict[str, str],
    arguments: list[str],
    problem: str,
    running_mesh: RunningMesh,
    infermesh: RunCommand,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"INFERMESH_{name}", value)
    result = infermesh("up", *arguments)
    assert result.exit_code == 1
    assert problem in result.stderr
    assert not running_mesh.servicer.orders


def test_the_setting_that_it_was_started_with_is_no_difference(
    running_mesh: RunningMesh, infermesh: RunCommand, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("INFERMESH_DRAIN_S", "7")
    assert infermesh("up").exit_code == 0


@pytest.fixture
def startable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infermesh_client.cli.up.check_startable", lambda *_: None)


@pytest.mark.usefixtures("startable")
def test_settings_are_checked_before_the_download(
    infermesh: RunCommand, models_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def download(*_: object) -> None:
        raise AssertionError("the download has begun")

    monkeypatch.setattr("infermesh_client.model_import.importer.import_model", download)
    monkeypatch.setenv("INFERMESH_KV_CACHE_BYTES", "plenty")
    monkeypatch.setenv("INFERMESH_UNKNOWN_FIELDS", "perhaps")
    result = infermesh("up")
    assert result.exit_code == 2
    assert "INFERMESH_KV_CACHE_BYTES='plenty' is invalid" in result.stderr
    assert "INFERMESH_UNKNOWN_FIELDS='perhaps' is invalid" in result.stderr


@pytest.mark.usefixtures("startable")
def test_a_mesh_can_start_without_a_model(
    infermesh: RunCommand, models_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def start(_settings: object, _home: object, _workers: object, model: str, **_: object) -> None:
        asked.append(model)
        raise InfermeshError("far enough")

    monkeypatch.setattr("infermesh_client.cli.up.start_mesh", start)
    monkeypatch.setenv("INFERMESH_MODEL", "none")
    assert "far enough" in infermesh("up").stderr
    assert asked == ["none"]


@pytest.mark.usefixtures("startable")
def test_each_start_has_a_secret_for_the_router_alone(
    infermesh: RunCommand, models_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[str] = []

    def start(settings: ClientSettings, home: Home, *_: object, **_options: object) -> None:
        services = plan_mesh(settings, home, [WorkerSpec("cpu")], "none").services
        files = {each.name: each.environment.get("INFERMESH_MANAGE_KEY_FILE") for each in services}
        assert [name for name, file in files.items() if file] == ["router"]
        told.append(Path(files["router"] or "").read_text(encoding="ascii"))
        raise InfermeshError("far enough")

    monkeypatch.setattr("infermesh_client.cli.up.start_mesh", start)
    monkeypatch.setenv("INFERMESH_MODEL", "none")
    for _ in range(2):
        assert "far enough" in infermesh("up").stderr
    assert len(set(told)) == 2
    infermesh("down")
    assert own_manage_key(Home.of(ClientSettings())) == ""
