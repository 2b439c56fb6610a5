"""The examples in TypeScript: their types, and what they print of a real mesh."""

import os
import subprocess
from pathlib import Path

import pytest

from tests.e2e.mesh import Mesh

FOLDER = Path(__file__).resolve().parents[2] / "examples" / "typescript"


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    subprocess.run(["npm", "ci", "--no-audit", "--no-fund"], cwd=FOLDER, check=True, timeout=300)


def run(script: str, mesh: Mesh, **environment: str) -> subprocess.CompletedProcess[str]:
    where = {"INFERMESH_GRPC": mesh.envoy.grpc, "INFERMESH_URL": mesh.envoy.http}
    command = ["npm", "run", "--silent", script, "--", "Name three rivers."]
    settings = {**os.environ, **where, **environment}
    return subprocess.run(command, cwd=FOLDER, env=settings, capture_output=True, text=True, check=False, timeout=120)


def test_the_types() -> None:
    ended = subprocess.run(["npm", "run", "--silent", "check"], cwd=FOLDER, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


def test_grpc_streams_an_answer_and_says_who_gave_it(mesh: Mesh) -> None:
    ended = run("grpc", mesh)
    assert ended.returncode == 0, ended.stderr
    *text, figures = ended.stdout.strip().splitlines()
    assert any(text)
    assert f"cpu at {mesh.workers[0].address} (" in figures
    assert "tokens/s" in figures


def test_openai_asks_without_tools_a_model_that_calls_none(mesh: Mesh) -> None:
    ended = run("openai", mesh)
    assert ended.returncode == 0, ended.stderr
    note, *text, who = ended.stdout.strip().splitlines()
    assert "asking without" in note
    assert any(text)
    assert who.startswith(f"[cpu at {mesh.workers[0].address}: ")


@pytest.mark.parametrize("script", ["grpc", "openai"])
@pytest.mark.parametrize(
    ("environment", "said"),
    [({"INFERMESH_MODEL": "nope"}, "The model 'nope' does not exist"), ({"INFERMESH_DEVICE": "gpu"}, "device 'gpu'")],
)
def test_errors_are_one_line(mesh: Mesh, script: str, environment: dict[str, str], said: str) -> None:
    ended = run(script, mesh, **environment)
    assert ended.returncode == 1
    assert said in ended.stderr
    assert len(ended.stderr.strip().splitlines()) == 1
