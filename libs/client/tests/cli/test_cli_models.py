"""`infermesh models` and its subcommands against a real gRPC server."""

import json
import subprocess
import threading
from pathlib import Path

import msgspec
import pytest

from infermesh.inference.v1 import inference_pb2
from infermesh_runtime.manifest.model_manifest import Proof, read_manifest, write_manifest
from libs.client.tests.cli.conftest import OpenTerminal, RunCommand, RunningProcesses
from libs.client.tests.conftest import RunningMesh


def test_models(
    mesh: RunningMesh, infermesh: RunCommand, tiny_gguf: Path, models_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infermesh_client.model_import.convert.entry_points", lambda group: [])
    result = infermesh("models", "import", str(tiny_gguf), "--name", "tiny")
    assert result.exit_code == 0, result.output
    assert "Imported tiny" in result.stderr
    document = json.loads(infermesh("models", "list", "--json", "--endpoint", mesh.address).stdout)
    assert [model["name"] for model in document["served"]] == ["tiny"]
    assert [model["path"] for model in document["on_disk"]] == [str(models_root / "tiny")]
    assert "READY" in infermesh("models", "--endpoint", mesh.address).stdout
    assert json.loads(infermesh("models", "--json").stdout)["served"] is None
    (stored,) = document["on_disk"]
    du = subprocess.run(["du", "-s", "-B1", stored["path"]], capture_output=True, text=True, check=True)
    assert stored["disk_bytes"] == int(du.stdout.split()[0]) > stored["size_bytes"]
    assert infermesh("models", "remove", "tiny").exit_code == 0
    assert infermesh("models", "remove", "tiny").exit_code == 1


def test_the_table_shows_what_was_verified(
    infermesh: RunCommand, tiny_gguf: Path, models_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infermesh_client.model_import.convert.entry_points", lambda group: [])
    monkeypatch.setenv("COLUMNS", "200")
    assert infermesh("models", "import", str(tiny_gguf), "--dry-run").exit_code == 0
    assert infermesh("models", "import", str(tiny_gguf)).exit_code == 2
    assert not models_root.exists()
    assert infermesh("models", "import", str(tiny_gguf), "--name", "tiny", "--no-verify").exit_code == 0
    folder = models_root / "tiny"
    assert "98/100" not in infermesh("models").stdout
    old = Proof(runner="r", reference="w", matched=98, tokens=100, template_kept=True, end_of_turn="")
    write_manifest(folder, msgspec.structs.replace(read_manifest(folder), proof=old))
    assert "98/100 on r" in infermesh("models").stdout
    cpu, xpu, gpu = (msgspec.structs.replace(old, worker=worker) for worker in ("cpu", "xpu", "gpu"))
    others = (msgspec.structs.replace(xpu, matched=100), msgspec.structs.replace(gpu, not_tried="no device"))
    write_manifest(folder, msgspec.structs.replace(read_manifest(folder), proof=cpu, other_proofs=others))
    assert "98/100 on cpu, 100/100 on xpu, not tried on gpu" in infermesh("models").stdout
    assert json.loads(infermesh("models", "--json").stdout)["on_disk"][0]["proof"]["matched"] == 98


def test_models_are_loaded_and_unloaded(mesh: RunningMesh, infermesh: RunCommand) -> None:
    at = ("--endpoint", mesh.address)
    result = infermesh("models", "load", "tiny", "--pin", "--keep-alive", "60", "--device", "gpu", *at)
    assert result.stderr == "Loaded tiny; unloaded to make room: other\n"
    assert infermesh("models", "unload", "tiny", "--force", "--endpoint", mesh.address).stderr == "Unloaded tiny\n"
    load, unload = mesh.servicer.orders
    assert (load.model, load.pinned, load.keep_alive_s, load.device) == ("tiny", True, 60, "gpu")
    assert (unload.model, unload.force) == ("tiny", True)
    result = infermesh("models", "load", "huge", "--endpoint", mesh.address)
    assert (result.exit_code, result.stderr) == (1, "error: huge needs 9 GB, 3 GB are free\n")


def test_a_load_shows_how_far_it_is_on_a_terminal(mesh: RunningMesh, open_terminal: OpenTerminal) -> None:
    mesh.servicer.may_answer, mesh.servicer.load_left_s = threading.Event(), 7.0
    terminal = open_terminal("models", "load", "tiny", "--pin", "--endpoint", mesh.address)
    terminal.read_until("Loading tiny, 7 s left")
    mesh.servicer.may_answer.set()
    terminal.read_until("Loaded tiny; unloaded to make room: other")
    assert terminal.wait() == 0
    (load,) = mesh.servicer.orders
    assert (load.model, load.pinned) == ("tiny", True)


@pytest.mark.parametrize(("pinned", "shown"), [(False, "(READY)"), (True, "(READY, pinned)")])
def test_a_served_model_is_not_removed(  # noqa: PLR0917 - fixtures and cases
    pinned: bool,
    shown: str,
    mesh: RunningMesh,
    infermesh: RunCommand,
    models_root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("INFERMESH_GRPC_PORT", mesh.address.rpartition(":")[2])
    mesh.servicer.pinned = pinned
    (models_root / "tiny").mkdir(parents=True)
    (models_root / "other").mkdir()
    result = infermesh("models", "remove", "tiny")
    assert result.exit_code == 1
    assert f"the mesh serves 'tiny' {shown}" in result.stderr
    assert "--force" in result.stderr
    assert infermesh("models", "remove", "other").exit_code == 0
    assert infermesh("models", "remove", "tiny", "--force").exit_code == 0
    assert list(models_root.glob("[a-z]*")) == []


def test_a_model_is_not_removed_while_the_mesh_does_not_answer(
    infermesh: RunCommand, models_root: Path, running: RunningProcesses
) -> None:
    running("worker-cpu")
    (models_root / "tiny").mkdir(parents=True)
    result = infermesh("models", "remove", "tiny")
    assert result.exit_code == 1
    assert "does not say whether it serves 'tiny'" in result.stderr
    assert (models_root / "tiny").is_dir()


def test_an_import_returns_when_the_mesh_knows_the_model(
    mesh: RunningMesh,
    infermesh: RunCommand,
    tiny_gguf: Path,
    running: RunningProcesses,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("infermesh_client.model_import.convert.entry_points", lambda group: [])
    monkeypatch.setenv("INFERMESH_GRPC_PORT", mesh.address.rpartition(":")[2])
    running("worker-cpu")
    scanned = threading.Event()

    def scan() -> None:
        mesh.servicer.watched.wait(20)
        mesh.servicer.available.append(inference_pb2.AvailableModel(name="new"))
        scanned.set()
        mesh.servicer.changed.set()

    worker = threading.Thread(target=scan)
    worker.start()
    result = infermesh("models", "import", str(tiny_gguf), "--name", "new")
    assert scanned.is_set()
    worker.join()
    assert result.exit_code == 0
    assert "No worker" not in result.stderr


def test_an_import_says_when_no_worker_can_load_the_model(
    mesh: RunningMesh,
    infermesh: RunCommand,
    tiny_gguf: Path,
    running: RunningProcesses,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("infermesh_client.model_import.convert.entry_points", lambda group: [])
    monkeypatch.setattr("infermesh_client.cli.models.models._KNOWN_TIMEOUT_S", 0.3)
    monkeypatch.setenv("INFERMESH_GRPC_PORT", mesh.address.rpartition(":")[2])
    running("worker-cpu")
    result = infermesh("models", "import", str(tiny_gguf), "--name", "new")
    assert result.exit_code == 0
    assert "No worker of the running mesh can load new" in result.stderr
