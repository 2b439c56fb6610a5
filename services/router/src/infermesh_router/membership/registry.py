"""Owns the set of endpoint addresses, and how each came into it. Knows no names, no files and no connections."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum


class Source(StrEnum):
    """How an address became an endpoint's; for one that came in several ways, the first of these."""

    STATIC = "static"
    DNS = "dns"
    FILE = "file"
    REGISTERED = "registered"


class Registry:
    """Tells `on_change` the addresses whenever they change; `replace` takes lists, `registered` one that may leave."""

    def __init__(self, on_change: Callable[[frozenset[str]], None]) -> None:
        self._on_change = on_change
        self._lists: dict[Source, frozenset[str]] = {}
        self._registered: Counter[str] = Counter()
        self._told: frozenset[str] | None = None

    @property
    def addresses(self) -> frozenset[str]:
        """All of them (host:port)."""
        return frozenset().union(self._registered, *self._lists.values())

    def source_of(self, address: str) -> str:
        """How the address came; "" when it has left."""
        for source in Source:
            if address in self._lists.get(source, ()):
                return source
        return Source.REGISTERED if address in self._registered else ""

    def replace(self, source: Source, addresses: Iterable[str]) -> None:
        """These, and no others, come from `source` now."""
        self._lists[source] = frozenset(addresses)
        self._tell()

    @contextmanager
    def registered(self, address: str) -> Iterator[None]:
        """The address is an endpoint while the block runs, and as long as another block or list has it."""
        self._registered[address] += 1
        self._tell()
        try:
            yield
        finally:
            self._registered[address] -= 1
            if not self._registered[address]:
                del self._registered[address]
            self._tell()

    def _tell(self) -> None:
        addresses = self.addresses
        if addresses != self._told:
            self._told = addresses
            self._on_change(addresses)
