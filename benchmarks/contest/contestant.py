"""Runs each contestant of a benchmark in a process of its own, which answers each round with one JSON line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

_ROOT = Path(__file__).resolve().parents[2]

Run = Callable[..., dict[str, Any]]
"""Called with (round number, streams) and what else is asked; returns at least `seconds` and `tokens`."""


def answer_rounds(run: Run) -> None:
    """The contestant's side: says that it is ready, then runs each requested round until standard input ends."""
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(run(asked.pop("round"), asked.pop("streams"), **asked)), flush=True)


class ContestantProcess:
    """The benchmark's side: one contestant's process. Leaving the context ends the process."""

    def __init__(self, script: Path, *arguments: str) -> None:
        command = [sys.executable, str(script), *arguments]
        paths = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        env = os.environ | {"PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, paths)])}
        self._process = subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        self._read()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def run(self, round_number: int, streams: int, **more: str) -> dict[str, Any]:
        """Runs a round; `more` goes to the contestant as it is."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"round": round_number, "streams": streams, **more}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):  # native libraries print lines of their own
                return dict(json.loads(line))
        raise RuntimeError(
            f"A contestant ended before it answered; its errors are above. Command: {self._process.args!r}"
        )
