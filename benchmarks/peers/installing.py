"""Installs a peer into a venv of its own below build/, once, and says why where that fails."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOM = Path(__file__).resolve().parent
BUILD = ROOM.parents[1] / "build"
_MESSAGE_CHARACTERS = 400


class PeerError(Exception):
    """A peer that cannot be installed or started on this machine, and why."""


def install(name: str, lock: Path, settings: Mapping[str, str] | None = None, build: Path = BUILD) -> Path:
    """Returns the bin folder of the peer's venv, made now unless it was made with this lock. Raises PeerError.

    `settings`: environment variables for pip, such as CMAKE_ARGS.
    """
    venv = build / f"venv-peer-{name}"
    mark, wanted = venv / ".installed", lock.read_text()
    if mark.exists() and mark.read_text() == wanted:
        return venv / "bin"
    print(f"installing {name} into {venv}; this may take long", file=sys.stderr, flush=True)
    _run(name, [sys.executable, "-m", "venv", "--without-pip", str(venv)], {})
    pip = [sys.executable, "-m", "pip", "--python", str(venv / "bin" / "python"), "--quiet"]
    _run(
        name,
        [*pip, "install", "--no-deps", "--disable-pip-version-check", "-r", str(lock)],
        settings or {},
    )
    mark.write_text(wanted)
    return venv / "bin"


def _run(name: str, command: list[str], settings: Mapping[str, str]) -> None:
    done = subprocess.run(command, env=os.environ | settings, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PeerError(f"{name} cannot be installed here: {reason(done.stderr + done.stdout)}")


def reason(output: str) -> str:
    """The part of a program's output that says what went wrong: its last line of an error, or else its last lines."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if "error" in line.lower()]
    return (errors[-1] if errors else " / ".join(lines[-3:]) or "it printed nothing")[-_MESSAGE_CHARACTERS:]
