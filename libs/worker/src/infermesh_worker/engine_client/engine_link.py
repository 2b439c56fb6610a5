"""Starts one engine process, exchanges frames with it, and tells why it ended."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Self, cast

import msgspec

from infermesh_worker.engine_process.frames import (
    CrashReport,
    EngineCommand,
    EngineReport,
    FrameError,
    FrameReader,
    StartCommand,
    pack,
    report_decoder,
)
from infermesh_worker.executors.arena import Arena


@dataclass(frozen=True, slots=True)
class EngineEnd:
    """Why an engine process ended."""

    reason: str
    """For operators; may hold the text of an internal error."""
    permanent: bool = False
    """Whether starting it again cannot succeed."""
    code: int = 0
    """gRPC code of the error that ended it; 0 when that was not an InfermeshError."""
    error_reason: str = ""
    """Reason of that error, as in ErrorInfo."""
    is_internal: bool = False
    """Whether `reason` holds the text of an internal error, such as a panic of a library."""

    @property
    def told(self) -> str:
        """The reason as clients are told it: never the text of an internal error, which can quote other requests."""
        return "an internal error ended the engine process" if self.is_internal else self.reason


class EngineLink(asyncio.Protocol):
    """A running engine process."""

    def __init__(self, on_report: Callable[[EngineReport], None]) -> None:
        self._on_report = on_report
        self._reader = FrameReader()
        self._transport: asyncio.WriteTransport | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._disconnected = asyncio.Event()
        self._end: EngineEnd | None = None
        self.arenas: tuple[Arena, Arena] | None = None
        """Memory for tensors, shared with the process: the one that we write, and the one that it writes."""

    @classmethod
    async def start(
        cls,
        build: str,
        start: StartCommand,
        on_report: Callable[[EngineReport], None],
        *,
        tensor_memory_bytes: int = 0,
    ) -> Self:
        """Starts an engine process and tells it to build the model. Raises OSError when it cannot be started.

        `tensor_memory_bytes`: most memory for tensors on their way, each way; 0: the process gets none.

        Must be called in the main thread, because the process is killed when the thread that started it ends.
        """
        link = cls(on_report)
        if tensor_memory_bytes:
            link.arenas = Arena.create(tensor_memory_bytes), Arena.create(tensor_memory_bytes)
        ours, theirs = socket.socketpair()
        with theirs:
            loop = asyncio.get_running_loop()
            await loop.create_unix_connection(lambda: link, sock=ours)
            try:
                link._process = _spawn(theirs.fileno(), build, link.arenas or ())
            except OSError:
                link.close()
                raise
        link.send(start)
        return link

    @property
    def pid(self) -> int:
        """Process id of the engine process."""
        return self._process.pid if self._process else 0

    def send(self, command: EngineCommand) -> None:
        """Sends a command; does nothing when the process is gone."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(pack(command))

    def kill(self, reason: str = "") -> None:
        """Kills the process. `reason` is reported as the reason of its end; without one, its exit status is."""
        if reason:
            self._end = EngineEnd(reason)
        if self._process is not None:
            self._process.kill()

    def close(self) -> None:
        """Closes the socket, which makes the process end."""
        if self._transport is not None:
            self._transport.close()
        self._close_arenas()

    def _close_arenas(self) -> None:
        arenas, self.arenas = self.arenas, None
        for arena in arenas or ():
            arena.close()

    async def ended(self) -> EngineEnd:
        """Waits until the process has ended; returns why."""
        await self._disconnected.wait()
        self.kill()
        status = await asyncio.to_thread(self._process.wait) if self._process else 0
        self._close_arenas()
        return self._end or EngineEnd(describe_exit(status))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.WriteTransport, transport)  # uvloop's transport is one, but not a subclass

    def data_received(self, data: bytes) -> None:
        try:
            for payload in self._reader.feed(data):
                self._receive(report_decoder.decode(payload))
        except (FrameError, msgspec.DecodeError) as error:
            self._end = EngineEnd(f"the engine process sent data that is not a frame: {error}")
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._disconnected.set()

    def _receive(self, report: EngineReport) -> None:
        if isinstance(report, CrashReport):
            words = ": ".join(filter(None, (report.kind, report.message)))
            self._end = EngineEnd(words, report.permanent, report.code, report.reason, is_internal=bool(report.kind))
        else:
            self._on_report(report)


def _spawn(fd: int, build: str, arenas: Sequence[Arena]) -> subprocess.Popen[bytes]:
    """Blocks until exec, about a millisecond. Unlike uvloop's, it uses vfork, which does not disturb gRPC's threads."""
    module = "infermesh_worker.engine_process.process"
    arguments = ["--fd", str(fd), "--parent", str(os.getpid()), "--build", build]
    fds = [arena.fd for arena in arenas]
    if fds:
        arguments += ["--arenas", *map(str, fds)]
    return subprocess.Popen([sys.executable, "-m", module, *arguments], pass_fds=[fd, *fds], stdin=subprocess.DEVNULL)


def describe_exit(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"the engine process exited with status {status}"
    try:
        return f"the engine process was killed by {signal.Signals(-status).name}"
    except ValueError:
        return f"the engine process was killed by signal {-status}"
