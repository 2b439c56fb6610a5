"""Resolves DNS targets to addresses, again and again."""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Iterable, Sequence

from infermesh_router.membership.target import Target, join_host_port

_log = logging.getLogger(__name__)

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""(host, port) → addresses as host:port. Raises OSError if the name cannot be resolved."""

_GONE = {socket.EAI_NONAME, getattr(socket, "EAI_NODATA", socket.EAI_NONAME)}


async def resolve_with_dns(host: str, port: int) -> list[str]:
    """All addresses of `host`, from the system's resolver. Raises socket.gaierror."""
    infos = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [join_host_port(str(address[0]), port) for *_, address in infos]


class Resolver:
    """Calls `on_change` with the fixed and the resolved addresses of its targets whenever they change.

    A name that does not exist has no addresses. If resolving fails in another way, the name keeps its addresses, so
    that a resolver's hiccup takes no worker away. Either failure is logged once, until the name resolves again. Fixed
    addresses, and names that resolve, do not wait for the others.
    """

    def __init__(
        self,
        targets: Iterable[Target],
        on_change: Callable[[frozenset[str], frozenset[str]], None],
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
        self._told: tuple[frozenset[str], frozenset[str]] | None = None
        self._retargeted = asyncio.Event()

    async def run(self) -> None:
        """Resolves now, every interval if a target is a DNS name, and when the targets change. Runs until cancelled."""
        while True:
            self._retargeted.clear()
            await self.refresh()
            has_names = any(target.resolve for target in self._targets)
            try:
                async with asyncio.timeout(self._interval_s if has_names else None):
                    await self._retargeted.wait()
            except TimeoutError:
                continue

    def set_targets(self, targets: Iterable[Target]) -> None:
        """Replaces the targets."""
        self._targets = tuple(targets)
        self._resolved = {target: found for target, found in self._resolved.items() if target in self._targets}
        self._failing &= set(self._targets)
        self._retargeted.set()

    def hurry(self) -> None:
        """Has the names resolved again now."""
        self._retargeted.set()

    async def refresh(self) -> None:
        """Resolves every name once and reports each change at once."""
        names = [target for target in self._targets if target.resolve]
        if len(names) < len(self._targets) or not names:
            self._tell()
        for looked_up in asyncio.as_completed([self._look_up(name) for name in names]):
            await looked_up
            self._tell()

    def _tell(self) -> None:
        fixed = frozenset(target.address for target in self._targets if not target.resolve)
        found = (fixed, frozenset().union(*self._resolved.values()))
        if found != self._told:
            self._told = found
            self._on_change(*found)

    async def _look_up(self, target: Target) -> None:
        try:
            found = frozenset(await self._resolve(target.host, target.port))
        except Exception as error:  # whatever one name does must not keep the others from being resolved
            self._note_failure(target, error)
            return
        self._failing.discard(target)
        if target in self._targets:  # they may have been replaced in the meantime
            self._resolved[target] = found

    def _note_failure(self, target: Target, error: Exception) -> None:
        if isinstance(error, socket.gaierror) and error.errno in _GONE:
            self._resolved.pop(target, None)
        if target not in self._failing:
            self._failing.add(target)
            _log.warning("cannot resolve %s: %s; trying again every %g s", target.host, error, self._interval_s)
