"""Owns how a benchmark talks to a contestant: a process of its own that answers each round with one JSON line."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[[int, int], dict[str, Any]]
"""Called with (round number, streams); returns what it measured, `seconds` and `tokens` at the least."""


def answer_rounds(run: Run) -> None:
    """The contestant's side: says that it is ready, then runs each round asked for until standard input ends."""
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(run(asked["round"], asked["streams"])), flush=True)


class Contestant:
    """The benchmark's side: one contestant's process. A context manager; the process is gone afterwards."""

    def __init__(self, script: str, *arguments: str) -> None:
        command = [sys.executable, str(Path(__file__).with_name(script)), *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> "Contestant":
        self._read()
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    @property
    def pid(self) -> int:
        return self._process.pid

    def run(self, round_number: int, streams: int) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"round": round_number, "streams": streams}) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if line.startswith("{"):  # native libraries print lines of their own
                return dict(json.loads(line))
        raise RuntimeError(f"a contestant ended: {self._process.args}")
