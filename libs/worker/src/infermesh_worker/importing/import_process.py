"""Runs one import as a process group of its own, reads what it says, and ends it."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from subprocess import DEVNULL, PIPE, Popen, TimeoutExpired
from typing import IO

GRACE_S = 10.0
"""How long a process that is told to end may take, before it is killed."""
_KILLED_WITHIN_S = 1.0
"""How long a killed process may take to end."""
_MOST_LINE_BYTES = 1 << 16
_TAIL_BYTES = 4096


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the process ended."""

    exit_code: int
    """0: well; negative: the number of the signal that ended it."""
    last_words: str
    """The end of what it wrote to stderr."""


class ImportProcess:
    """One process. `run` runs it once; `stop` ends it early."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], note_line: Callable[[bytes], None]
    ) -> None:
        """`note_line` gets each line that it writes to stdout, without the end, if it is of a sensible length."""
        self._command = command
        self._environment = environment
        self._note_line = note_line
        self._process: Popen[bytes] | None = None
        self._kill: asyncio.TimerHandle | None = None
        self.stopped = False
        """Whether it was told to end."""

    async def run(self) -> Outcome:
        """Runs it until it has ended, and its own children with it. Raises OSError when it cannot be started."""
        # Not by the event loop: uvloop forks, and gRPC's threads make that end in an abort or in silence.
        self._process = process = Popen(  # noqa: ASYNC220 - takes less than a millisecond
            self._command,
            stdin=DEVNULL,
            stdout=PIPE,
            stderr=PIPE,
            env=self._environment,
            cwd="/",  # Python looks for modules there
            start_new_session=True,
        )
        try:
            if self.stopped:
                self._signal(signal.SIGTERM)
            stdout, stderr = await _reader(process.stdout), await _reader(process.stderr)
            tail, _ = await asyncio.gather(_read_tail(stderr), self._read_lines(stdout))
            return Outcome(await asyncio.to_thread(process.wait), tail.decode(errors="replace"))
        finally:
            if self._kill is not None:
                self._kill.cancel()
            self._signal(signal.SIGKILL)
            with suppress(TimeoutExpired):
                process.wait(_KILLED_WITHIN_S)

    def stop(self) -> None:
        """Tells it to end, and kills it if it takes too long."""
        if self.stopped:
            return
        self.stopped = True
        self._signal(signal.SIGTERM)
        self._kill = asyncio.get_running_loop().call_later(GRACE_S, self._signal, signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        """Signals the whole group."""
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, number)

    async def _read_lines(self, stream: asyncio.StreamReader) -> None:
        pending = b""
        while chunk := await stream.read(_MOST_LINE_BYTES):
            *lines, pending = (pending + chunk).split(b"\n")
            for line in lines:
                self._note_line(line)
            pending = pending[-_MOST_LINE_BYTES:]


async def _reader(pipe: IO[bytes] | None) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), pipe)
    return reader


async def _read_tail(stream: asyncio.StreamReader) -> bytes:
    tail = b""
    while chunk := await stream.read(_MOST_LINE_BYTES):
        tail = (tail + chunk)[-_TAIL_BYTES:]
    return tail
