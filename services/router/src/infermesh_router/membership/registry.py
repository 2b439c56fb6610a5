"""Keeps the set of endpoint addresses and remembers where each came from."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from enum import StrEnum


class AddressSource(StrEnum):
    """Where an endpoint's address came from. If there are several sources, the first in this order counts."""

    STATIC = "static"
    DNS = "dns"
    FILE = "file"
    REGISTERED = "registered"


class Registry:
    """The addresses; `on_change` gets them whenever they change.

    `replace` sets the whole list of a source; `registered` adds one address for a while.
    """

    def __init__(self, on_change: Callable[[frozenset[str]], None]) -> None:
        self._on_change = on_change
        self._lists: dict[AddressSource, frozenset[str]] = {}
        self._registered: Counter[str] = Counter()
        self._told: frozenset[str] | None = None

    @property
    def addresses(self) -> frozenset[str]:
        """All addresses, as host:port."""
        return frozenset().union(self._registered, *self._lists.values())

    def source_of(self, address: str) -> str:
        """Where the address came from; "" if it has left."""
        for source in AddressSource:
            if address in self._lists.get(source, ()):
                return source
        return AddressSource.REGISTERED if address in self._registered else ""

    def replace(self, source: AddressSource, addresses: Iterable[str]) -> None:
        """Replaces all addresses of `source` with these."""
        self._lists[source] = frozenset(addresses)
        self._tell()

    @contextmanager
    def registered(self, address: str) -> Iterator[None]:
        """Registers the address while the block runs. It stays as long as another block or list still has it."""
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
