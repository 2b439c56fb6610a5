"""Finds the command `infermesh` beside the worker, and says how it is run to import a model."""

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from infermesh_runtime.importing.command_modules import missing_modules


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What shall be imported, after it was checked."""

    source: str
    name: str
    weights: str = ""
    """Precision to compress the weights to; empty: each converter chooses."""
    force: bool = False
    """Whether a model of this name is replaced."""


def import_problem(root: Path, *, allowed: bool) -> str:
    """Why models cannot be imported into this folder; empty if they can. `allowed`: what the settings say."""
    if not allowed:
        return "INFERMESH_MANAGE_MODELS is off for this worker"
    if find_spec("infermesh_client") is None or missing_modules():
        return "the command `infermesh` is not installed beside this worker; `pip install 'infermesh-client[command]'`"
    place = root.absolute()
    while not place.exists():
        place = place.parent
    if not os.access(place, os.W_OK):
        return f"the models folder {root} cannot be written"
    return ""


def import_command(wanted: Wanted) -> Sequence[str]:
    """The command, as a process that dies with this one."""
    tether = (sys.executable, "-m", "infermesh_client.tether", "--parent", str(os.getpid()), "--")
    options = ["models", "import", "--for-worker", "--name", wanted.name]
    if wanted.weights:
        options += ["--weights", wanted.weights]
    if wanted.force:
        options.append("--force")
    return (*tether, sys.executable, "-m", "infermesh_client.command", *options, "--", wanted.source)


def import_environment(root: Path, home: Path) -> Mapping[str, str]:
    """Its environment: this process's, which may hold tokens of hubs, but with no settings of the worker."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("INFERMESH_")}
    folders = {"INFERMESH_MODELS": root, "INFERMESH_HOME": home}
    return {**own, **{name: str(folder.expanduser().absolute()) for name, folder in folders.items()}}
