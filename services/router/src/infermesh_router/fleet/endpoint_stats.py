"""Statistics of the requests sent to each endpoint since the router started."""

from collections import Counter, OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field

RECENT = 100
"""Number of requests that a mean covers."""
_MAX_ADDRESSES = 4096


@dataclass(slots=True)
class EndpointStats:
    """The statistics of one endpoint."""

    choices: Counter[str] = field(default_factory=Counter)
    """How often it was chosen, by reason."""
    failovers: int = 0
    """Running streams that moved from it to another endpoint."""
    _queued_s: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))
    _overhead_s: deque[float] = field(default_factory=lambda: deque(maxlen=RECENT))

    @property
    def queued_ms(self) -> float:
        """Mean time in the router's queue of the last RECENT requests."""
        return _mean_ms(self._queued_s)

    @property
    def overhead_ms(self) -> float:
        """Mean time that the router itself took for the last RECENT requests."""
        return _mean_ms(self._overhead_s)

    def note_sent(self, *, queued_s: float, overhead_s: float) -> None:
        """Records a request that was sent to it."""
        self._queued_s.append(queued_s)
        self._overhead_s.append(overhead_s)


class StatsByAddress:
    """The statistics of the endpoints used last, `max_addresses` at most. Those that left may come back."""

    def __init__(self, max_addresses: int = _MAX_ADDRESSES) -> None:
        self._max_addresses = max_addresses
        self._stats: OrderedDict[str, EndpointStats] = OrderedDict()

    def of(self, address: str) -> EndpointStats:
        """The statistics of the endpoint at the address, made on first use."""
        stats = self._stats.get(address)
        if stats is None:
            stats = self._stats[address] = EndpointStats()
            if len(self._stats) > self._max_addresses:
                self._stats.popitem(last=False)
        self._stats.move_to_end(address)
        return stats


def _mean_ms(times_s: Iterable[float]) -> float:
    times = list(times_s)
    return 1000 * sum(times) / len(times) if times else 0.0
