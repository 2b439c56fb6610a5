"""The SDK works where only its own dependencies are installed; the command says what it needs."""

import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from libs.client.tests import sdk_alone

ROOT = Path(__file__).resolve().parents[3]
OURS = ("libs/client", "libs/runtime", "protos")


def base_distributions() -> set[str]:
    """What `pip install infermesh-client` installs of other people's: the dependencies without extras, and theirs."""
    found: set[str] = set()
    left = []
    for folder in OURS:
        left += tomllib.loads((ROOT / folder / "pyproject.toml").read_text())["project"]["dependencies"]
    while left:
        requirement = Requirement(left.pop())
        name = canonicalize_name(requirement.name)
        if name in found or (requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})):
            continue
        found.add(name)
        if not name.startswith("infermesh-"):  # ours are read above: what is installed may be of another day
            left += requires(name) or ()
    return found


def test_the_sdk_needs_nothing_of_the_command_or_of_services() -> None:
    installed = base_distributions()
    assert not installed & {"uvloop", "supervisor", "pip", "prometheus-client", "pydantic-settings", "rich", "typer"}
    modules = {
        module
        for module, owners in packages_distributions().items()
        if {canonicalize_name(owner) for owner in owners} & installed
    }
    allowed = ",".join(modules | {"infermesh", "infermesh_client", "infermesh_runtime", "google"})
    command = [sys.executable, sdk_alone.__file__, allowed]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert ended.stdout == "['Client', 'AsyncClient', 'smart_chat_sync']\n127.0.0.1:1 city\n", ended.stderr
    assert ended.returncode == 2
    assert "rich" in ended.stderr
    assert "pip install 'infermesh-client[command]'" in ended.stderr
