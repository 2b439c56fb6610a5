"""`infermesh models` and its subcommands against a real gRPC server."""

import json
from pathlib import Path

import pytest

from libs.client.tests.cli.conftest import RunCommand
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
    assert infermesh("models", "remove", "tiny").exit_code == 0
    assert infermesh("models", "remove", "tiny").exit_code == 1


def test_models_are_loaded_and_unloaded(mesh: RunningMesh, infermesh: RunCommand) -> None:
    result = infermesh("models", "load", "tiny", "--pin", "--keep-alive", "60", "--endpoint", mesh.address)
    assert result.stderr == "Loaded tiny; unloaded to make room: other\n"
    assert infermesh("models", "unload", "tiny", "--force", "--endpoint", mesh.address).stderr == "Unloaded tiny\n"
    load, unload = mesh.servicer.orders
    assert (load.model, load.pinned, load.keep_alive_s) == ("tiny", True, 60)
    assert (unload.model, unload.force) == ("tiny", True)
    result = infermesh("models", "load", "huge", "--endpoint", mesh.address)
    assert (result.exit_code, result.stderr) == (1, "error: huge needs 9 GB, 3 GB are free\n")
