"""Owns the set of endpoint addresses: a static list, and names re-resolved from time to time. Knows no connections."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Sequence

from infermesh_router.target import Target, join_host_port

_log = logging.getLogger(__name__)

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) → addresses as host:port. Raises OSError when the name cannot be resolved."""

_GONE = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


async def resolve_with_dns(host: str, port: int) -> list[str]:
    """Every address of `host`, by the system's resolver. Raises socket.gaierror."""
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [join_host_port(str(address[0]), port) for *_, address in infos]


class Registry:
    """Tells `on_change` the addresses whenever they change.

    A name that does not exist has no endpoints; one whose resolution fails otherwise keeps those it had, so that a
    resolver's hiccup takes no worker away. Either is logged once, until it resolves again.
    """

    def __init__(
        self,
        targets: Sequence[Target],
        on_change: Callable[[frozenset[str]], None],
        *,
        interval_s: float = 5.0,
        resolve: Resolve = resolve_with_dns,
    ) -> None:
        self._targets = tuple(targets)
        self._on_change = on_change
        self._interval_s = interval_s
        self._resolve = resolve
        self._resolved: dict[Target, frozenset[str]] = {}
        self._failing: set[Target] = set()
        self._addresses: frozenset[str] | None = None

    async def run(self) -> None:
        """Resolves now and every interval, until cancelled; returns at once when no target is a name."""
        await self.refresh()
        while any(target.resolve for target in self._targets):
            await asyncio.sleep(self._interval_s)
            await self.refresh()

    async def refresh(self) -> None:
        """Resolves every name once and tells what changed."""
        found = await asyncio.gather(*(self._look_up(target) for target in self._targets))
        addresses = frozenset().union(*found)
        if addresses != self._addresses:
            self._addresses = addresses
            self._on_change(addresses)

    async def _look_up(self, target: Target) -> frozenset[str]:
        if not target.resolve:
            return frozenset({target.address})
        try:
            self._resolved[target] = frozenset(await self._resolve(target.host, target.port))
        except OSError as error:
            self._note_failure(target, error)
        else:
            self._failing.discard(target)
        return self._resolved.get(target, frozenset())

    def _note_failure(self, target: Target, error: OSError) -> None:
        if isinstance(error, socket.gaierror) and error.errno in _GONE:
            self._resolved.pop(target, None)
        if target not in self._failing:
            self._failing.add(target)
            _log.warning("cannot resolve %s: %s; trying again every %g s", target.host, error, self._interval_s)
