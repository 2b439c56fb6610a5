"""A network backend of httpcore that connects to addresses which were checked, whatever a name means by then."""

from collections.abc import Awaitable, Callable, Iterable, Sequence

import httpcore

Dial = Callable[[str, int], Awaitable[httpcore.AsyncNetworkStream]]
"""(IP address, port) → a connection. Raises httpcore.ConnectError."""


async def dial_tcp(address: str, port: int) -> httpcore.AsyncNetworkStream:
    """Connects over TCP."""
    return await httpcore.AnyIOBackend().connect_tcp(address, port)


class PinnedBackend(httpcore.AsyncNetworkBackend):
    """Connects to the first of its addresses that answers. TLS still checks the name, which httpcore gives it."""

    def __init__(self, addresses: Sequence[str], dial: Dial) -> None:
        self._addresses = addresses
        self._dial = dial

    async def connect_tcp(
        self,
        host: str,  # noqa: ARG002 - the name was resolved before
        port: int,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - the whole fetch has a limit
        local_address: str | None = None,  # noqa: ARG002
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,  # noqa: ARG002
    ) -> httpcore.AsyncNetworkStream:
        """A connection. Raises httpcore.ConnectError."""
        failure: Exception = httpcore.ConnectError("no address")
        for address in self._addresses:
            try:
                return await self._dial(address, port)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failure = error
        raise failure
