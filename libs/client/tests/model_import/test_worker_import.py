"""`infermesh models import --for-worker`: progress as lines of JSON, and no sources of this machine."""

import io
import json
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import pytest

from infermesh_client.model_import import progress_lines, staging
from infermesh_client.model_import.precision import WeightPrecision
from infermesh_client.model_import.progress_lines import ProgressLines
from infermesh_runtime.importing.network_imports import WEIGHTS
from libs.client.tests.model_import.conftest import SAFETENSORS, Hub, RunImport


@pytest.fixture
def niceness(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What the command adds to its niceness, in place of doing so to this process."""
    added: list[int] = []
    monkeypatch.setattr(os, "nice", added.append)
    return added


def lines_of(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def test_an_import_tells_its_steps(run_import: RunImport, niceness: list[int], models_root: Path) -> None:
    code, output = run_import("--for-worker", "--name", "m", "--", "hf:org/model")
    assert code == 0
    lines = [line for line in lines_of(output) if "step" in line]
    download = [line for line in lines if line["step"] == "Downloading org/model"]
    assert {line["unit"] for line in download} == {"bytes"}
    assert download[0]["done"] == 0
    assert download[-1]["done"] == download[-1]["total"] >= len(SAFETENSORS["model.safetensors"])
    assert {"Hashing"} < {line["step"] for line in lines}
    assert lines_of(output).count({"published": True}) == 1
    assert (models_root / "m" / "infermesh.json").is_file()
    assert niceness == [10]


@pytest.mark.usefixtures("niceness")
def test_a_published_model_is_told_even_if_the_rest_fails(
    run_import: RunImport, models_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(_folder: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(staging, "_sync_folder", interrupt)
    code, output = run_import("--for-worker", "--name", "m", "--", "hf:org/model")
    assert code != 0
    assert '{"published": true}' in output.splitlines()
    assert (models_root / "m").is_dir()


@pytest.mark.usefixtures("niceness")
def test_a_failure_is_the_last_line(run_import: RunImport) -> None:
    code, output = run_import("--for-worker", "--name", "m", "hf:org/missing")
    assert code == 1
    assert "org/missing" in lines_of(output)[-1]["error"]


@pytest.mark.usefixtures("niceness", "models_root")
def test_a_folder_of_this_machine_is_not_a_source(
    run_import: RunImport, hub: Hub, tmp_path: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, output = run_import("--for-worker", "--name", "m", str(tiny_gguf))
    assert (code, "a path" in lines_of(output)[-1]["error"]) == (1, True)
    assert not hub.requests
    (tmp_path / "org" / "model").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    code, _ = run_import("--for-worker", "--name", "m", "org/model")
    assert code == 0
    assert hub.requests


@pytest.mark.usefixtures("niceness")
def test_code_is_trusted_by_nobody(run_import: RunImport) -> None:
    code, output = run_import("--for-worker", "--trust-code", "--name", "m", "pypi:package:m.pt")
    assert (code, "its maker's code" in lines_of(output)[-1]["error"]) == (1, True)


def test_the_help_does_not_show_it(run_import: RunImport) -> None:
    assert "--for-worker" not in run_import("--help")[1]


def test_steps_are_told_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(progress_lines, "time", SimpleNamespace(monotonic=lambda: now[0]))
    out = io.StringIO()
    view = ProgressLines(out)
    with view.bytes_step("a", None) as step:
        for _ in range(100):
            now[0] += 0.01
            step.advance(1)
        step.set(5, 200)
    with view.fraction_step("b"):
        pass
    view.say("a note")
    lines = lines_of(out.getvalue())
    assert 5 <= len([line for line in lines if line.get("step") == "a"]) <= 8
    assert lines[-4] == {"step": "a", "unit": "bytes", "done": 5, "total": 200}
    assert lines[-1] == {"note": "a note"}


def test_the_precisions_are_the_same_everywhere() -> None:
    assert set(WEIGHTS) == set(get_args(WeightPrecision))
