"""Runs the export of a Hugging Face model in the converter environment, and keeps its noise in a log."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.models.loading_report import check_loaded

_TETHER = """
import os, sys
from infermesh_runtime.processes.parent import die_with
die_with(int(sys.argv[1]))
os.execv(sys.argv[2], sys.argv[2:])
"""
"""Becomes a command that dies with its parent."""
SCRIPT = Path(__file__).with_name("export_script.py")


def export_hugging_face(
    folder: Path, target: Path, weights: str, *, python: Path, log: Path, progress: Callable[[str, float], None]
) -> None:
    """Writes `target`, an openvino_model.xml, and its .bin from the safetensors in `folder`.

    `python` has optimum-intel, NNCF and OpenVINO. Raises FailedPrecondition when the model cannot be exported.
    """
    target.parent.mkdir(exist_ok=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    problem = ""
    with log.open("ab") as noise, _start([str(python), str(SCRIPT), str(folder), str(target), weights], noise) as child:
        try:
            for line in child.stdout or ():
                message = json.loads(line)
                problem = message.get("error", problem)
                if "loaded" in message:
                    check_loaded(message["loaded"])
                if "fraction" in message:
                    progress("exporting to OpenVINO", float(message["fraction"]))
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        raise FailedPrecondition(
            f"optimum-intel cannot export this model: {problem or f'it ended with {child.returncode}'} ({log} has "
            "all of its words)",
            reason="MODEL_NOT_SUPPORTED",
        )


def _start(command: Sequence[str], noise: BinaryIO) -> "subprocess.Popen[str]":
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    tether = [sys.executable, "-c", _TETHER, str(os.getpid())]
    return subprocess.Popen([*tether, *command], stdout=subprocess.PIPE, stderr=noise, text=True, env=environment)
