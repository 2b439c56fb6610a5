"""Converters that the tests install. They run in a process of their own, which imports this module."""

import json
import os
import signal
from pathlib import Path

from infermesh_client.model_import.convert import ReportProgress
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument


def write(folder: Path, *, weights: str | None, progress: ReportProgress, **_options: object) -> None:
    """Writes what it saw: the files, and the precision."""
    seen = [sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")), weights]
    progress("half", 0.5)
    print("TracerWarning: noise", flush=True)
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


def cannot_take(folder: Path, **_options: object) -> None:
    (folder / "other").mkdir()
    raise FailedPrecondition("no such architecture", reason="MODEL_NOT_SUPPORTED")


def answer_well(folder: Path, **_options: object) -> dict[str, object]:
    """Two right tokens and a wrong one, and a chat template that does not come back."""
    right = int(os.environ["TEST_RIGHT_TOKEN"])
    outputs = [[right], [right], [right + 1]]
    turn = {"prompt": [5], "output": [2], "ended": True, "marker": ""}
    return {"prompts": [[5, 9, 20]] * 3, "outputs": outputs, "template_kept": False, "end_of_turn": "", "turn": turn}


def answer_past_its_end(folder: Path, **_options: object) -> dict[str, object]:
    outputs = [[int(os.environ["TEST_RIGHT_TOKEN"])]] * 2
    turn = {"prompt": [5], "output": [7, 8], "ended": False, "marker": "<|end|>"}
    return {"prompts": [[5, 9, 20]] * 2, "outputs": outputs, "template_kept": True, "end_of_turn": "", "turn": turn}


def answer_badly(folder: Path, **_options: object) -> dict[str, object]:
    wrong = [[int(os.environ["TEST_RIGHT_TOKEN"]) + 1]] * 2
    return {"prompts": [[5, 9, 20]] * 2, "outputs": wrong, "template_kept": None, "end_of_turn": "", "turn": None}


def answer_not(folder: Path, **_options: object) -> None:
    raise FailedPrecondition("no such kernel")
