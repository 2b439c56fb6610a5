"""The engine process's end of the socket to the front: reads and writes frames without blocking."""

import contextlib
import math
import os
import select
import socket
import threading
from collections import deque
from typing import Self

from infermesh_worker.engine_process.frames import EngineCommand, EngineReport, FrameReader, command_decoder, pack

_RECEIVE_BYTES = 1 << 18


class ParentGoneError(Exception):
    """The front closed its end of the socket."""


class Channel:
    """A non-blocking socket with a bounded buffer for what the front has not read yet."""

    def __init__(self, sock: socket.socket, *, max_pending_bytes: int = 8 * 1024 * 1024) -> None:
        """Takes ownership of the socket. `congested` is true from `max_pending_bytes` unsent bytes on."""
        self._socket = sock
        self._socket.setblocking(False)
        self._reader = FrameReader()
        self._commands: deque[EngineCommand] = deque()
        self._pending = bytearray()
        self._sending = threading.Lock()
        """Held while bytes are added or sent: a thread that ends the process sends its reason."""
        self._max_pending_bytes = max_pending_bytes
        self._woken = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    @classmethod
    def from_fd(cls, fd: int) -> Self:
        """A channel over an inherited socket."""
        return cls(socket.socket(fileno=fd))

    @property
    def congested(self) -> bool:
        """Whether the front is so far behind that the engine should pause."""
        return len(self._pending) >= self._max_pending_bytes

    def send(self, frame: EngineReport) -> None:
        """Sends as much as the socket takes now and keeps the rest. Raises ParentGoneError. Any thread may call it."""
        with self._sending:
            self._pending += pack(frame)
            self._flush()

    def receive(self) -> EngineCommand | None:
        """The next command that has arrived, or None. Does not wait. Raises ParentGoneError."""
        while not self._commands and (data := self._read()):
            self._commands.extend(map(command_decoder.decode, self._reader.feed(data)))
        return self._commands.popleft() if self._commands else None

    def wait(self, timeout_s: float | None = None) -> None:
        """Waits for a command or a `wake`, or, while data is unsent, until the socket takes more of it.

        `timeout_s`: longest wait, rounded up to milliseconds; None: as long as it takes.
        """
        if self._commands:
            return
        poll = select.poll()
        poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._pending else 0))
        poll.register(self._woken, select.POLLIN)
        poll.poll(None if timeout_s is None else math.ceil(1000 * timeout_s))
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._woken)
        with self._sending:
            self._flush()

    def wake(self) -> None:
        """Ends `wait`, or the next one if none runs. May be called in any thread."""
        os.eventfd_write(self._woken, 1)

    def drain(self) -> None:
        """Sends everything, and waits for the front to read it. Raises ParentGoneError. Any thread may call it."""
        self._socket.setblocking(True)
        with self._sending:
            self._flush()

    def close(self) -> None:
        self._socket.close()
        os.close(self._woken)

    def _read(self) -> bytes:
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return b""
        except ConnectionError as error:
            raise ParentGoneError from error
        if not data:
            raise ParentGoneError
        return data

    def _flush(self) -> None:
        while self._pending:
            try:
                sent = self._socket.send(self._pending)
            except BlockingIOError:
                return
            except ConnectionError as error:
                raise ParentGoneError from error
            del self._pending[:sent]
