"""A gRPC server with nothing of ours in it, for tests that script what the other side does."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc


@asynccontextmanager
async def plain_server(
    add_services: Callable[[grpc.aio.Server], None], *, address: str = "127.0.0.1:0"
) -> AsyncIterator[str]:
    """Serves what `add_services` adds until the block ends. Gives host:port, or `address` if it is a unix socket."""
    server = grpc.aio.server()
    add_services(server)
    port = server.add_insecure_port(address)
    await server.start()
    try:
        yield address if address.startswith("unix:") else f"{address.rpartition(':')[0]}:{port}"
    finally:
        await server.stop(None)
