"""Resolves the names of hosts in threads of its own: a name server that does not answer holds up nothing else."""

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

ResolveHost = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) → IP addresses. Raises OSError if the name cannot be resolved."""

_THREADS = 4


class HostResolver:
    """A `ResolveHost` that asks the system's resolver."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="image hosts")

    async def __call__(self, host: str, port: int) -> list[str]:
        """All addresses of the host, each once."""
        loop = asyncio.get_running_loop()
        infos = await loop.run_in_executor(self._threads, lambda: _look_up(host, port))
        return list(dict.fromkeys(infos))

    async def close(self) -> None:
        """Ends the threads; none is waited for."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _look_up(host: str, port: int) -> list[str]:
    return [str(address[0]) for *_, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
