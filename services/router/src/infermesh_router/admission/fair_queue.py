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

    def _forget(self) -> None:
        """Forgets what idle clients were served: they owe little, and there is no bound on how many they are."""
        self.levels = {client: self.levels[client] for client in self.waiting}


_Entry = tuple[Rank, float, int, _Flow[T]]


class FairQueue(Generic[T]):
    """The waiting items. `push` and `remove` or `serve` come in pairs; each is O(log n). Pure: no clock, no I/O."""

    def __init__(self) -> None:
        self._numbers: OrderedDict[T, int] = OrderedDict()
        """Each item's number in the order of arrival."""
        self._bands: dict[Rank, _Band] = {}
        self._flows: dict[tuple[Rank, Hashable, str], _Flow[T]] = {}
        self._heaps: dict[Hashable, list[_Entry[T]]] = {}
        self._lane_sizes: dict[Hashable, int] = {}
        self._next_number = 0

    def __len__(self) -> int:
        return len(self._numbers)

    @property
    def lanes(self) -> Collection[Hashable]:
        """The lanes in which something waits."""
        return self._lane_sizes.keys()

    @property
    def oldest(self) -> T | None:
        """The item that was pushed first; None if none waits."""
        return next(iter(self._numbers), None)

    def push(self, item: T) -> None:
        """Adds an item that does not wait yet."""
        rank, lane, client = _rank(item), item.lane, item.client
        number = self._numbers[item] = self._next_number
        self._next_number += 1
        self._lane_sizes[lane] = self._lane_sizes.get(lane, 0) + 1
        band = self._bands.setdefault(rank, _Band())
        band.enter(client)
        flow = self._flows.get((rank, lane, client))
        if flow is None or not flow.items:
            flow = self._flows[rank, lane, client] = _Flow(rank, client, lane)
            heap = self._heaps.setdefault(lane, [])
            heapq.heappush(heap, (rank, band.levels[client], number, flow))
        flow.add(number, item)

    def remove(self, item: T) -> None:
        """Takes out an item that was not served. Removing twice is safe."""
        number = self._numbers.pop(item, None)
        if number is None:
            return
        rank, lane, client = _rank(item), item.lane, item.client
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

    def serve(self, item: T) -> None:
        """Takes out an item and charges its client."""
        rank = _rank(item)
        self._bands[rank].charge(item.client, item.cost_tokens)
        self._flows[rank, item.lane, item.client].turns.charge(item)
        self.remove(item)

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
        return [item for item in self._numbers if item.lane == lane]

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
        return next(other for other in reversed(self._numbers) if _rank(other) == lowest and other.client == most)

    def _lane_head(self, lane: Hashable) -> _Entry[T]:
        """The entry of the lane's first flow. Levels and numbers only grow, so an outdated entry comes up too early."""
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


def _rank(item: Queueable) -> Rank:
    return (0 if item.resumed else 1, -item.priority)
