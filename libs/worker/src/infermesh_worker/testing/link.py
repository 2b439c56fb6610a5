"""A TCP proxy to a server on this machine whose connections a test can cut."""

import asyncio
import contextlib


class Link:
    """Listens at `address` and passes bytes between its clients and the server's port."""

    def __init__(self) -> None:
        self.address = ""
        self._target = 0
        self._listener: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self.used = asyncio.Event()
        """Set by the first connection after the start or a cut."""

    async def start(self, port: int) -> None:
        """Listens; after a restart, on the same address as before."""
        self._target = port
        own = int(self.address.rpartition(":")[2] or 0)
        self._listener = await asyncio.start_server(self._accept, "127.0.0.1", own)
        self.address = f"127.0.0.1:{self._listener.sockets[0].getsockname()[1]}"

    def cut(self) -> None:
        """Resets every connection; accepts new ones."""
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        self.used.clear()

    async def stop(self) -> None:
        """Resets every connection and accepts no new ones."""
        if self._listener is not None:
            self._listener.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs this in a task
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.used.set()
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
        pass  # the link was cut; the other direction ends too
    finally:
        writer.transport.abort()
