"""Owns a TCP connection's way to a server of this machine that can be cut. For tests; knows no gRPC."""

import asyncio
import contextlib


class Link:
    """Listens at `address` and passes bytes on to the server's port, both ways."""

    def __init__(self) -> None:
        self.address = ""
        self._target = 0
        self._listener: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, port: int) -> None:
        """Listens, on the address it had if it was started before."""
        self._target = port
        own = int(self.address.rpartition(":")[2] or 0)
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", own)
        self.address = f"127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Resets every connection; new ones can be made."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()

    async def stop(self) -> None:
        """Resets every connection and takes no new ones."""
        if self._listener is not None:
            self._listener.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - the server runs it as one
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self._writers.add(writer)
        with contextlib.suppress(OSError):
            server_reader, server_writer = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers.add(server_writer)
            await asyncio.gather(_pass_on(reader, server_writer), _pass_on(server_reader, writer))


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass  # cut: the other direction is ended too
    finally:
        writer.transport.abort()
