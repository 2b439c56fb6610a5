"""Runs the command `infermesh` for its tests: in this process, or on a pseudo-terminal."""

import os
import pty
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner, Result

from infermesh_client.cli.app import app
from infermesh_client.mesh.supervision.supervisor import ProcessStatus, Supervisor

RunCommand = Callable[..., Result]
"""Called with the arguments and, by name, what stdin holds."""
_DEADLINE_S = 30.0
"""A spinner writes for as long as the command waits, so silence alone does not end a wait."""
COMMAND = [sys.executable, "-m", "infermesh_client.cli.app"]


@pytest.fixture
def infermesh(models_root: Path) -> RunCommand:
    """Runs the command in this process."""

    def run(*arguments: str, stdin: str | bytes | None = None) -> Result:
        result = CliRunner().invoke(app, list(arguments), input=stdin)
        assert "Traceback" not in result.output
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return run


RunningProcesses = Callable[..., None]
"""Called with the names of services that the supervisor of this home then seems to run."""


@pytest.fixture
def running(monkeypatch: pytest.MonkeyPatch) -> RunningProcesses:
    def run(*names: str) -> None:
        monkeypatch.setattr(Supervisor, "is_running", lambda _self: True)
        processes = [ProcessStatus(name, "RUNNING", 1, "") for name in names]
        monkeypatch.setattr(Supervisor, "processes", lambda _self: processes)

    return run


class Terminal:
    """The command on a pseudo-terminal, as a user has it."""

    def __init__(self, *command: str, **environment: str) -> None:
        self._master, slave = pty.openpty()
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "xterm", "COLUMNS": "120", **environment},
        )
        os.close(slave)
        self.seen = ""

    def read_until(self, text: str) -> str:
        """Reads until `text` has come, and returns everything up to its end."""
        deadline_s = time.monotonic() + _DEADLINE_S
        while text not in self.seen:
            ready, _, _ = select.select([self._master], [], [], max(0.0, deadline_s - time.monotonic()))
            assert ready, f"{text!r} did not come after {self.seen[-2000:]!r}"
            assert time.monotonic() < deadline_s, f"{text!r} did not come in time"
            self.seen += os.read(self._master, 4096).decode()
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def interrupt_prompt(self) -> None:
        """Presses Ctrl-C at a prompt that has been read.

        Waits until the process waits for a key: CPython's input() notices a signal only then, or at the next key.
        """
        deadline_s = time.monotonic() + _DEADLINE_S
        process = psutil.Process(self.process.pid)
        while process.status() != psutil.STATUS_SLEEPING:
            assert time.monotonic() < deadline_s, "it does not wait for a key"
            time.sleep(0.001)
        self.process.send_signal(signal.SIGINT)

    def wait(self) -> int:
        """Waits for the end and returns the exit code."""
        return self.process.wait(20)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._master)


OpenTerminal = Callable[..., Terminal]
"""Called with the arguments and, by name, with variables of the environment."""


@pytest.fixture
def open_terminal(models_root: Path) -> Iterator[OpenTerminal]:
    with ExitStack() as stack:

        def open_one(*arguments: str, **environment: str) -> Terminal:
            terminal = Terminal(*COMMAND, *arguments, **environment)
            stack.callback(terminal.close)
            return terminal

        yield open_one
