"""The command that imports a model for a worker: what it needs, its words and its environment."""

import os
from pathlib import Path

import pytest

from infermesh_client.command import main as run_command
from infermesh_runtime.importing import command_modules
from infermesh_worker.importing import command as command_module
from infermesh_worker.importing.command import Wanted, import_command, import_environment, import_problem


def test_what_an_import_needs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tmp_path / "not" / "there"
    assert not import_problem(root, allowed=True)
    assert "INFERMESH_MANAGE_MODELS" in import_problem(root, allowed=False)
    monkeypatch.setattr(os, "access", lambda path, _mode: path != tmp_path)
    assert "cannot be written" in import_problem(root, allowed=True)
    monkeypatch.setattr(command_module, "find_spec", lambda name: None if name == "infermesh_client" else 1)
    assert "`infermesh` is not installed" in import_problem(root, allowed=True)


@pytest.mark.parametrize("lacking", ["supervisor", "pydantic_settings", "rich"])
def test_a_command_that_would_not_start_is_not_one(
    lacking: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command_modules, "find_spec", lambda name: None if name == lacking else 1)
    with pytest.raises(SystemExit):
        run_command()
    assert f"the command needs {lacking}," in capsys.readouterr().err
    assert "`infermesh` is not installed" in import_problem(tmp_path, allowed=True)


def test_the_command_takes_no_option_for_a_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = import_command(Wanted(source="hf:a/b", name="m", weights="int4", force=True))
    assert words[-2:] == ("--", "hf:a/b")
    assert "--trust-code" not in words
    assert "--for-worker" in words
    monkeypatch.setenv("INFERMESH_MESH_TOKEN", "secret")
    monkeypatch.setenv("HF_TOKEN", "token")
    monkeypatch.chdir(tmp_path)
    environment = import_environment(Path("models"), Path("home"))
    assert "INFERMESH_MESH_TOKEN" not in environment
    assert environment["HF_TOKEN"] == "token"
    assert environment["INFERMESH_MODELS"] == str(tmp_path / "models")
