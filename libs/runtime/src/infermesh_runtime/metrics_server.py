"""Serves metrics over HTTP for Prometheus. Clients that are slow or silent cost no thread, and are dropped soon."""

import asyncio
from typing import Any
from urllib.parse import urlsplit

import h11
from prometheus_client import CollectorRegistry, make_wsgi_app

from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.settings import split_host_port

_READ_BYTES = 16 * 1024


class MetricsServer:
    """An HTTP endpoint that answers one request a connection with a registry's metrics. Used from one event loop."""

    def __init__(self, registry: CollectorRegistry, *, answer_s: float = 10.0, connections: int = 32) -> None:
        """A connection is cut after `answer_s` seconds. Of more than `connections` at once, the oldest is cut."""
        self._app = make_wsgi_app(registry)
        self._answer_s = answer_s
        self._connections = connections
        self._open: dict[asyncio.Task[Any], None] = {}
        self._server: asyncio.Server | None = None

    @property
    def port(self) -> int:
        """The port it listens on; 0 before the start."""
        return int(self._server.sockets[0].getsockname()[1]) if self._server and self._server.sockets else 0

    async def start(self, listen: str) -> None:
        """Listens on host:port. Raises FailedPrecondition when that address cannot be bound."""
        host, port = split_host_port(listen)
        try:
            self._server = await asyncio.start_server(self._serve, host, port, limit=_READ_BYTES)
        except OSError as error:
            raise FailedPrecondition(
                f"cannot serve metrics on {listen}: {error.strerror or error}. Free the port, or change"
                " INFERMESH_METRICS_LISTEN."
            ) from error

    async def close(self) -> None:
        """Cuts every connection and frees the port."""
        if self._server is None:
            return
        self._server.close()
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - a coroutine runs in a task
        self._open[task] = None
        if len(self._open) > self._connections:
            next(iter(self._open)).cancel()
        try:
            async with asyncio.timeout(self._answer_s):
                await self._answer(reader, writer)
        except (OSError, TimeoutError, h11.RemoteProtocolError, asyncio.CancelledError):
            writer.transport.abort()
        finally:
            del self._open[task]
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=_READ_BYTES)
        while not isinstance(event := connection.next_event(), h11.Request):
            if event is not h11.NEED_DATA:
                return  # it closed the connection
            connection.receive_data(await reader.read(_READ_BYTES))
        status, headers, body = await asyncio.to_thread(self._run_app, _environment(event))
        head = h11.Response(status_code=status, headers=[*headers, ("Content-Length", str(len(body)))])
        writer.write(connection.send(head) or b"")
        writer.write(connection.send(h11.Data(data=b"" if event.method == b"HEAD" else body)) or b"")
        writer.write(connection.send(h11.EndOfMessage()) or b"")
        await writer.drain()

    def _run_app(self, environment: dict[str, str]) -> tuple[int, list[tuple[str, str]], bytes]:
        """The status, headers and body of prometheus_client's answer, which heeds what the client accepts."""
        answer: list[tuple[int, list[tuple[str, str]]]] = []

        def start(status: str, headers: list[tuple[str, str]]) -> None:
            answer.append((int(status.split(maxsplit=1)[0]), headers))

        body = b"".join(self._app(environment, start))
        return *answer[0], body


def _environment(request: h11.Request) -> dict[str, str]:
    """The request as WSGI describes it, as far as prometheus_client reads it."""
    target = urlsplit(request.target.decode("ascii", "replace"))
    headers = {
        f"HTTP_{name.decode().upper().replace('-', '_')}": value.decode("latin-1") for name, value in request.headers
    }
    return {"REQUEST_METHOD": request.method.decode(), "PATH_INFO": target.path, "QUERY_STRING": target.query} | headers
