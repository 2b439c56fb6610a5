"""Converters that the tests install. They run in a process of their own, which imports this module."""

import json
import os
import signal
from pathlib import Path

from infermesh_client.model_import.convert import ReportProgress
from infermesh_runtime.errors import InvalidArgument


def write(folder: Path, *, weights: str | None, progress: ReportProgress, **_options: object) -> None:
    """Writes what it saw: the files, and the precision."""
    seen = [sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")), weights]
    progress("half", 0.5)
    (folder / "testdevice").mkdir()
    (folder / "testdevice" / "model.bin").write_text(json.dumps(seen))


def fail(folder: Path, **_options: object) -> None:
    raise ValueError("no")


def refuse(folder: Path, **_options: object) -> None:
    raise InvalidArgument("not so")


def fill_the_disk(folder: Path, **_options: object) -> None:
    raise OSError(28, "full")


def divide_by_zero(folder: Path, **_options: object) -> None:
    """Dies as a native library does that divides by a head count of 0."""
    os.kill(os.getpid(), signal.SIGFPE)
