"""Makes the converter environment once: a venv with CPU torch and pinned versions, below INFERMESH_HOME.

Workers never import from it. Converters run in it as subprocesses, and what they print goes to a log.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from infermesh_runtime.errors import FailedPrecondition, Unavailable
from infermesh_runtime.importing.models_folder import locked

FOLDER, LOG = "converter", "converter.log"
TOLD = ("optimum-intel", "nncf", "transformers", "torch")
"""The packages whose versions a manifest records."""
_NEEDED_MODULES = ("optimum", "nncf", "torch", "transformers")
_TORCH_INDEX = "https://download.pytorch.org/whl/cpu"
"""Has torch's builds without CUDA, which the Python package index lacks on Linux."""
_FINISHED, _LOCK = "finished", ".lock"
_NEEDED_BYTES = 4 << 30
_CPU_TORCH = "import sys, torch; sys.exit(torch.version.cuda is not None)"
_PIP = ("--no-input", "--disable-pip-version-check", "--no-warn-script-location", "--no-deps")

Report = Callable[[float], None]
"""Told the fraction of the work that is done, in [0, 1]."""


@dataclass(frozen=True, slots=True)
class ConverterEnvironment:
    """An interpreter that can run converters."""

    python: Path
    log: Path
    """File to which converters append what they print."""
    tools: Mapping[str, str]
    """Versions of the packages in TOLD."""


def pinned() -> Mapping[str, str]:
    """The versions that the environment gets, by package."""
    lines = files(__package__).joinpath("requirements.lock").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==", 1) for line in lines if "==" in line)


def find_environment(home: Path) -> ConverterEnvironment | None:
    """The environment if there is one: this process's own if it has what converters need, else the one below `home`."""
    log = home / "log" / LOG
    if all(find_spec(module) for module in _NEEDED_MODULES):
        return ConverterEnvironment(Path(sys.executable), log, _installed())
    folder = _folder(home)
    if not (folder / _FINISHED).is_file():
        return None
    return ConverterEnvironment(folder / "bin" / "python", log, {name: pinned()[name] for name in TOLD})


def find_transformers(home: Path) -> ConverterEnvironment | None:
    """What has torch and transformers: this process's own environment, whose versions are newer, or the converter's."""
    if all(find_spec(module) for module in ("torch", "transformers")):
        return ConverterEnvironment(Path(sys.executable), home / "log" / LOG, {})
    return find_environment(home)


def make_environment(home: Path, report: Report) -> ConverterEnvironment:
    """Makes the environment below `home`, or waits for another process that does.

    Raises Unavailable when a package cannot be downloaded, and FailedPrecondition when the disk or what was downloaded
    does not do.
    """
    folder = _folder(home)
    folder.parent.mkdir(parents=True, exist_ok=True)
    (home / "log").mkdir(parents=True, exist_ok=True)
    with locked(folder.parent / _LOCK):
        found = find_environment(home)
        if found is not None:
            return found
        free = shutil.disk_usage(folder.parent).free
        if free < _NEEDED_BYTES:
            raise FailedPrecondition(
                f"converting Hugging Face weights needs {_NEEDED_BYTES / 1e9:.0f} GB in {folder.parent} for a "
                f"converter environment, and {free / 1e9:.1f} GB are free",
                reason="DISK_FULL",
            )
        try:
            _make(folder, home / "log" / LOG, report)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
    made = find_environment(home)
    if made is None:
        raise FailedPrecondition(f"the converter environment in {folder} was removed while it was made")
    return made


def _make(folder: Path, log: Path, report: Report) -> None:
    for old in folder.parent.glob("v-*"):  # of other versions, or left by a process that was killed
        shutil.rmtree(old, ignore_errors=True)
    python, versions = folder / "bin" / "python", pinned()
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder)], log)
    torch = f"torch=={versions['torch']}"
    own_index = ("--index-url", _TORCH_INDEX, "--retries", "1", "--timeout", "20")
    if _pip(python, [*own_index, torch], log) is not None and (problem := _pip(python, [torch], log)) is not None:
        raise _not_made(problem, log)
    report(0.4)
    lines = [f"{name}=={value}" for name, value in versions.items() if name != "torch"]
    if (problem := _pip(python, lines, log, lambda done: report(0.4 + 0.55 * done / len(lines)))) is not None:
        raise _not_made(problem, log)
    if subprocess.run([python, "-c", _CPU_TORCH], check=False, capture_output=True).returncode:
        raise _not_made(f"the torch {versions['torch']} that pip found is not a build for CPUs", log)
    (folder / _FINISHED).touch()
    report(1.0)


def _pip(python: Path, arguments: Sequence[str], log: Path, collected: Callable[[int], object] = bool) -> str | None:
    """Installs packages; returns None, or pip's error. Calls `collected` with the number of packages found so far."""
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", *_PIP, *arguments]
    count, error = 0, "pip gave no reason"
    with log.open("a", encoding="utf-8") as file, _started(command) as process:
        try:
            for line in process.stdout or ():
                file.write(line)
                if line.startswith("Collecting "):
                    count += 1
                    collected(count)
                elif line.startswith("ERROR: "):
                    error = line.removeprefix("ERROR: ").strip()
        except BaseException:
            process.kill()
            raise
    return error if process.returncode else None


def _run(command: Sequence[str], log: Path) -> None:
    with log.open("a", encoding="utf-8") as file:
        if subprocess.run(command, stdout=file, stderr=file, check=False).returncode:
            raise _not_made("no venv can be made with this Python", log)


def _started(command: Sequence[str]) -> "subprocess.Popen[str]":
    """Starts a command that is killed when this process ends, with its output and errors in one stream."""
    tether = [sys.executable, "-m", "infermesh_client.tether", "--parent", str(os.getpid()), "--"]
    return subprocess.Popen([*tether, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def _not_made(problem: str, log: Path) -> Unavailable:
    return Unavailable(
        f"converting Hugging Face weights needs an environment of its own, which cannot be made: {problem} ({log} has "
        "all of pip's words). Import where the Python package index can be reached and copy the model's folder here, "
        "or take the model as a GGUF file, which needs no such environment",
        reason="CONVERTER_NOT_INSTALLED",
    )


def _folder(home: Path) -> Path:
    """A folder for each set of pinned versions and each Python."""
    wanted = repr((sorted(pinned().items()), sys.version_info[:2]))
    return home / FOLDER / f"v-{hashlib.sha256(wanted.encode()).hexdigest()[:12]}"


def _installed() -> Mapping[str, str]:
    found = {}
    for name in TOLD:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
