"""Orders waiting requests: resumed streams, then higher priority, then the client served least, then age.

Between clients this is start-time fair queueing (Goyal, Vin, Cheng 1996). A client's level is the number of tokens it
was served. A client that starts to wait begins at the level of the one served last, so nobody saves up turns. While two
clients wait, what they were served differs by at most the cost of one item of each.

A client's own items go in turns among its members, whoever of them was served least first. So members divide their
client's share, and a client gains nothing by naming many.

Items that the same endpoints can serve share a lane. All lanes together have one order; a lane that cannot be served
now is left out when asking for the head, so that it does not hold up the others.
"""

import heapq
from collections import OrderedDict
from collections.abc import Collection, Hashable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from infermesh_router.admission.flow import Flow as _Flow


class Queueable(Hashable, Protocol):
    """What the order needs to know of an item. None of it may change while the item waits."""

    @property
    def client(self) -> str:
        """Whose share it uses up."""

    @property
    def member(self) -> str:
        """Whom the client sends it for."""

    @property
    def lane(self) -> Hashable:
        """Its lane."""

    @property
    def priority(self) -> int:
        """Larger is served first."""

    @property
    def resumed(self) -> bool:
        """Whether it is served before all that are not."""

    @property
    def cost_tokens(self) -> float:
        """What serving it uses up, in tokens."""

    @property
    def arrival(self) -> int:
        """Its number in the order of arrival; no two items share one."""


T = TypeVar("T", bound=Queueable)

Rank = tuple[int, int]
"""(0 if resumed else 1, -priority): smaller is served first."""

_SPARE = 64
_MAX_LEVELS = 4096


@dataclass(slots=True)
class _Band:
    """What the clients of one rank were served, in tokens. `waiting` counts items by client, never 0."""

    served_level: float = 0.0
    levels: dict[str, float] = field(default_factory=dict)
    waiting: dict[str, int] = field(default_factory=dict)
    size: int = 0

    def enter(self, client: str) -> None:
        if client not in self.waiting:
            self.levels[client] = max(self.levels.get(client, 0.0), self.served_level)
        self.waiting[client] = self.waiting.get(client, 0) + 1
        self.size += 1

    def leave(self, client: str) -> None:
        self.size -= 1
        left = self.waiting[client] - 1
        if left:
            self.waiting[client] = left
            return
        del self.waiting[client]
        if self.levels[client] <= self.served_level:
            del self.levels[client]

    def charge(self, client: str, cost_tokens: float) -> None:
        level = self.levels[client]
        self.served_level = max(self.served_level, level)
        self.levels[client] = level + cost_tokens
        if len(self.levels) - len(self.waiting) > _MAX_LEVELS:
            self._forget()

    def refund(self, client: str, cost_tokens: float) -> None:
        """Undoes a charge, unless it was forgotten since."""
        if client in self.levels:
            self.levels[client] -= cost_tokens

    def _forget(self) -> None:
        """Forgets what idle clients were served: they owe little, and there is no bound on how many they are."""
        self.levels = {client: self.levels[client] for client in self.waiting}


@dataclass(frozen=True, slots=True)
class Charge:
    """What a client was charged for an item that was served."""

    band: _Band
    client: str
    cost_tokens: float


_Entry = tuple[Rank, float, int, _Flow[T]]


class FairQueue(Generic[T]):
    """The waiting items. `push` and `remove` or `serve` come in pairs; each is O(log n). Pure: no clock, no I/O."""

    def __init__(self) -> None:
        self._items: OrderedDict[int, T] = OrderedDict()
        """The items by number, in the order of arrival."""
        self._bands: dict[Rank, _Band] = {}
        self._flows: dict[tuple[Rank, Hashable, str], _Flow[T]] = {}
        self._heaps: dict[Hashable, list[_Entry[T]]] = {}
        self._lane_sizes: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return len(self._items)

    @property
    def lanes(self) -> Collection[Hashable]:
        """The lanes in which something waits."""
        return self._lane_sizes.keys()

    @property
    def oldest(self) -> T | None:
        """The item that arrived first; None if none waits."""
        return next(iter(self._items.values()), None)

    def push(self, item: T, refund: Charge | None = None) -> None:
        """Adds an item that does not wait yet, in its place by arrival.

        `refund`: what it was charged when it was served before, which turned out to serve it nothing.
        """
        rank, lane, client, number = _rank(item), item.lane, item.client, item.arrival
        _insert(self._items, number, item)
        self._lane_sizes[lane] = self._lane_sizes.get(lane, 0) + 1
        band = self._bands.setdefault(rank, _Band())
        if refund is not None and refund.band is band:
            band.refund(refund.client, refund.cost_tokens)
        band.enter(client)
        flow = self._flows.get((rank, lane, client))
        if flow is None or not flow.items:
            flow = self._flows[rank, lane, client] = _Flow(rank, client, lane)
        _insert(flow.items, number, item)
        flow.turns.add(number, item)
        if refund is not None:
            flow.turns.refund(item)
            self._announce_all(rank, client, band.levels[client])
        elif next(iter(flow.items)) == number:
            self._announce(flow, band.levels[client])

    def remove(self, item: T) -> None:
        """Takes out an item that was not served. Removing twice is safe."""
        if self._items.get(item.arrival) is not item:
            return
        rank, lane, client, number = _rank(item), item.lane, item.client, item.arrival
        del self._items[number]
        self._flows[rank, lane, client].remove(number)
        band = self._bands[rank]
        band.leave(client)
        if not band.size:
            del self._bands[rank]
        left = self._lane_sizes[lane] - 1
        self._lane_sizes[lane] = left
        if not left:
            self._drop_lane(lane)
        elif len(heap := self._heaps[lane]) > 2 * left + _SPARE:
            self._sweep(lane, heap)

    def serve(self, item: T) -> Charge:
        """Takes out an item and charges its client; `push` takes the charge back if the item returns."""
        rank = _rank(item)
        band = self._bands[rank]
        band.charge(item.client, item.cost_tokens)
        self._flows[rank, item.lane, item.client].turns.charge(item)
        self.remove(item)
        return Charge(band, item.client, item.cost_tokens)

    def head(self, without: Collection[Hashable] = ()) -> T | None:
        """The item to serve next, leaving out the lanes in `without`; None if there is none."""
        best: _Entry[T] | None = None
        for lane in self._lane_sizes:
            if lane in without:
                continue
            entry = self._lane_head(lane)
            if best is None or entry < best:
                best = entry
        return None if best is None else best[3].turns.head()

    def in_lane(self, lane: Hashable) -> list[T]:
        """All items of a lane, oldest first."""
        return [item for item in self._items.values() if item.lane == lane]

    def count_ahead(self, item: T) -> int:
        """How many would be served before a new item, if all items cost the same."""
        rank, client = _rank(item), item.client
        ahead = sum(band.size for other, band in self._bands.items() if other < rank)
        band = self._bands.get(rank)
        if band is None:
            return ahead
        own = band.waiting.get(client, 0)
        others = len(band.waiting) - (client in band.waiting)
        return ahead + min(band.size, own + (own + 1) * others)

    def find_displaced(self, item: T) -> T | None:
        """Which item leaves a full queue for a new one: the newest of the client with most items of the lowest rank.

        None if the new item is the one to refuse: nothing ranks lower, and no client has more items of its rank than
        its own client would have then. O(n), but needed for a full queue only.
        """
        rank = _rank(item)
        lowest = max(self._bands, default=rank)
        if lowest < rank:
            return None
        band = self._bands.get(lowest)
        if band is None:
            return None
        most = max(band.waiting, key=band.waiting.__getitem__)
        if lowest == rank and band.waiting[most] <= band.waiting.get(item.client, 0) + 1:
            return None
        return next(
            other for other in reversed(self._items.values()) if _rank(other) == lowest and other.client == most
        )

    def _announce(self, flow: _Flow[T], level: float) -> None:
        """Tells the heap of a flow whose entry is missing there, or would come up too late."""
        heap = self._heaps.setdefault(flow.lane, [])
        heapq.heappush(heap, (flow.rank, level, next(iter(flow.items)), flow))

    def _announce_all(self, rank: Rank, client: str, level: float) -> None:
        for flow in self._flows.values():
            if flow.rank == rank and flow.client == client and flow.items:
                self._announce(flow, level)

    def _lane_head(self, lane: Hashable) -> _Entry[T]:
        """The entry of the lane's first flow.

        An entry is outdated when its flow's level or first number has grown: then it comes up too early, and is
        corrected here. They shrink only when an item returns, and then `push` adds an entry.
        """
        heap = self._heaps[lane]
        while True:
            entry = heap[0]
            flow = entry[3]
            if not flow.items:
                heapq.heappop(heap)
                self._drop_flow(flow)
                continue
            true = (flow.rank, self._bands[flow.rank].levels[flow.client], next(iter(flow.items)), flow)
            if true == entry:
                return entry
            heapq.heapreplace(heap, true)

    def _drop_lane(self, lane: Hashable) -> None:
        del self._lane_sizes[lane]
        for *_, flow in self._heaps.pop(lane):
            self._drop_flow(flow)

    def _sweep(self, lane: Hashable, heap: list[_Entry[T]]) -> None:
        """Forgets flows that were emptied out of turn, so that cancelled requests leave nothing behind."""
        for *_, flow in heap:
            if not flow.items:
                self._drop_flow(flow)
        self._heaps[lane] = [entry for entry in heap if entry[3].items]
        heapq.heapify(self._heaps[lane])

    def _drop_flow(self, flow: _Flow[T]) -> None:
        """Forgets an empty flow, unless its client came back and has a new one."""
        key = (flow.rank, flow.lane, flow.client)
        if self._flows.get(key) is flow:
            del self._flows[key]


def _insert(items: OrderedDict[int, T], number: int, item: T) -> None:
    """Adds an item to those in the order of their numbers. One that returns is nearly always the first or the last."""
    last = next(reversed(items), -1)
    items[number] = item
    if number > last:
        return
    items.move_to_end(number, last=False)
    for earlier in [other for other in items if other < number][::-1]:
        items.move_to_end(earlier, last=False)


def _rank(item: Queueable) -> Rank:
    return (0 if item.resumed else 1, -item.priority)
