"""The SDK in a venv that has nothing else: what pip installs, the types it gives, and a program that uses it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.mesh import Mesh

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = Path(__file__).parent / "program.py"
PACKAGES = ("protos", "libs/runtime", "libs/client")
NOT_NEEDED = {"uvloop", "supervisor", "prometheus-client", "rich", "typer", "httpx", "huggingface-hub"}


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a venv with the SDK, installed as the README says, from copies: pip builds in the folders."""
    folder = tmp_path_factory.mktemp("sdk")
    skipped = shutil.ignore_patterns("build", "*.egg-info", "tests", "__pycache__")
    for package in PACKAGES:
        shutil.copytree(ROOT / package, folder / package, ignore=skipped)
    subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
    installing = [str(folder / "venv/bin/pip"), "install", "--quiet", *(f"./{package}" for package in PACKAGES)]
    subprocess.run(installing, cwd=folder, check=True, timeout=600)
    return folder / "venv" / "bin" / "python"


def test_little_is_installed(python: Path) -> None:
    listed = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, check=True).stdout
    installed = {each["name"].lower().replace("_", "-") for each in json.loads(listed)}
    assert {"infermesh-client", "infermesh-runtime", "infermesh-protos", "grpcio"} <= installed
    assert not installed & NOT_NEEDED


def test_a_program_without_pip_asks_the_mesh(python: Path, mesh: Mesh) -> None:
    subprocess.run([python, "-m", "pip", "uninstall", "--quiet", "--yes", "pip", "setuptools"], check=True)
    ended = subprocess.run([python, PROGRAM, mesh.envoy.grpc], capture_output=True, text=True, check=False, timeout=120)
    assert ended.returncode == 0, ended.stderr
    (text, device), again = json.loads(ended.stdout)
    assert text
    assert again == [text, device] == [text, "cpu"]


def test_the_types_of_the_program_are_checked(python: Path, tmp_path: Path) -> None:
    strict = [sys.executable, "-m", "mypy", "--strict", "--config-file", "/dev/null"]
    command = [*strict, "--python-executable", str(python), "--cache-dir", str(tmp_path), str(PROGRAM)]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout


def test_the_command_says_what_it_needs(python: Path) -> None:
    ended = subprocess.run([python.parent / "infermesh", "status"], capture_output=True, text=True, check=False)
    assert ended.returncode == 2
    assert "pip install 'infermesh-client[command]'" in ended.stderr
