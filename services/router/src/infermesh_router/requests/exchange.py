"""Hands large bytes to another process and back through files in memory: copying them holds no lock of Python."""

import asyncio
import os
from collections.abc import Callable, Sequence
from typing import Any, Self, TypeVar

ResultT = TypeVar("ResultT")


class Exchange:
    """A request for another process, and room for its reply. `close` frees both."""

    def __init__(self) -> None:
        self._request = os.memfd_create("request")
        self._reply = os.memfd_create("reply")

    @property
    def paths(self) -> tuple[str, str]:
        """Where the other process opens the request and the reply."""
        own = f"/proc/{os.getpid()}/fd"
        return f"{own}/{self._request}", f"{own}/{self._reply}"

    async def send(self, request: bytes) -> Self:
        """Writes the request. A thread does it: the kernel copies while other threads run."""
        await _in_thread(_write, self._request, request)
        return self

    async def receive(self, sizes: Sequence[int]) -> tuple[bytes, ...]:
        """Reads the parts of the reply, which have these sizes in bytes."""
        return await _in_thread(_read, self._reply, sizes)

    def close(self) -> None:
        """Call it once, when the other process has ended its work: it opens the files by their numbers."""
        os.close(self._request)
        os.close(self._reply)


async def _in_thread(function: Callable[[int, Any], ResultT], fd: int, argument: Any) -> ResultT:
    """Calls a function in a thread with a file of its own, because a caller that is cancelled closes this one."""
    own_fd = os.dup(fd)

    def call() -> ResultT:
        try:
            return function(own_fd, argument)
        finally:
            os.close(own_fd)

    return await asyncio.shield(asyncio.to_thread(call))


def read_request(path: str) -> bytes:
    """The request, read in the other process."""
    with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - unbuffered, at once
        return file.read()


def write_reply(path: str, parts: Sequence[bytes]) -> None:
    """Writes the parts of the reply in the other process."""
    with open(path, "r+b") as file:  # noqa: PTH123
        file.writelines(parts)


def _write(fd: int, data: bytes) -> None:
    view, at = memoryview(data), 0
    while at < len(view):
        at += os.write(fd, view[at:])


def _read(fd: int, sizes: Sequence[int]) -> tuple[bytes, ...]:
    os.lseek(fd, 0, os.SEEK_SET)
    return tuple(_read_part(fd, size) for size in sizes)


def _read_part(fd: int, size: int) -> bytes:
    part = os.read(fd, size)
    while len(part) < size:
        more = os.read(fd, size - len(part))
        if not more:
            raise EOFError("the reply is shorter than its parts")
        part += more
    return part
