"""Owns the order in which requests that wait are served. Pure: no clock, no I/O; knows neither requests nor endpoints.

Order: resumed ones, then larger priority, then the client that was served least, then age. The third is start-time
fair queueing (Goyal, Vin, Cheng 1996): a client's level is the tokens it was served; one that begins to wait starts at
the level of the one served last, so that nobody saves up turns. While two clients wait, what they were served differs
by at most the cost of one item of each.

Items that need the same of an endpoint are in one lane. Lanes are one order; a lane that cannot be served now is
left out when asking for the head, so that it holds up no other.
"""

import heapq
from collections import OrderedDict
from collections.abc import Collection, Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

T = TypeVar("T")

Rank = tuple[int, int]
"""(0 if resumed else 1, -priority): smaller is served first."""

_SPARE = 64
_MAX_LEVELS = 4096


@dataclass(slots=True, eq=False)
class Ticket(Generic[T]):
    """An item's place in the queue."""

    item: T
    rank: Rank
    client: str
    lane: Hashable
    cost_tokens: float
    number: int
    waiting: bool = True
    """Whether it is still in the queue."""


@dataclass(slots=True, eq=False)
class _Flow(Generic[T]):
    """One client's tickets of one rank in one lane, oldest first."""

    rank: Rank
    client: str
    lane: Hashable
    tickets: OrderedDict[int, Ticket[T]] = field(default_factory=OrderedDict)


@dataclass(slots=True)
class _Band:
    """What the clients of one rank were served, in tokens. `waiting` counts tickets by client, never 0."""

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
        """Forgets what clients that do not wait were served: what is owed is little, and would be without bound."""
        self.levels = {client: self.levels[client] for client in self.waiting}


_Entry = tuple[Rank, float, int, _Flow[T]]


class FairQueue(Generic[T]):
    """The waiting items. `push` and `remove` or `serve` come in pairs; each is O(log n)."""

    def __init__(self) -> None:
        self._tickets: OrderedDict[int, Ticket[T]] = OrderedDict()
        self._bands: dict[Rank, _Band] = {}
        self._flows: dict[tuple[Rank, Hashable, str], _Flow[T]] = {}
        self._heaps: dict[Hashable, list[_Entry[T]]] = {}
        self._lane_sizes: dict[Hashable, int] = {}
        self._next_number = 0

    def __len__(self) -> int:
        return len(self._tickets)

    @property
    def lanes(self) -> Collection[Hashable]:
        """Those in which something waits."""
        return self._lane_sizes.keys()

    @property
    def oldest(self) -> Ticket[T] | None:
        """What was pushed first, of all."""
        return next(iter(self._tickets.values()), None)

    def push(
        self,
        item: T,
        *,
        client: str,
        lane: Hashable = None,
        priority: int = 0,
        resumed: bool = False,
        cost_tokens: float = 1.0,
    ) -> Ticket[T]:
        """Adds an item at its place."""
        rank = (0 if resumed else 1, -priority)
        ticket = Ticket(item, rank, client, lane, cost_tokens, self._next_number)
        self._next_number += 1
        self._tickets[ticket.number] = ticket
        self._lane_sizes[lane] = self._lane_sizes.get(lane, 0) + 1
        band = self._bands.setdefault(rank, _Band())
        band.enter(client)
        flow = self._flows.get((rank, lane, client))
        if flow is None or not flow.tickets:
            flow = self._flows[rank, lane, client] = _Flow(rank, client, lane)
            heap = self._heaps.setdefault(lane, [])
            heapq.heappush(heap, (rank, band.levels[client], ticket.number, flow))
        flow.tickets[ticket.number] = ticket
        return ticket

    def remove(self, ticket: Ticket[T]) -> None:
        """Takes an item out unserved. Removing twice is safe."""
        if not ticket.waiting:
            return
        ticket.waiting = False
        del self._tickets[ticket.number]
        del self._flows[ticket.rank, ticket.lane, ticket.client].tickets[ticket.number]
        band = self._bands[ticket.rank]
        band.leave(ticket.client)
        if not band.size:
            del self._bands[ticket.rank]
        left = self._lane_sizes[ticket.lane] - 1
        self._lane_sizes[ticket.lane] = left
        if not left:
            self._drop_lane(ticket.lane)
        elif len(heap := self._heaps[ticket.lane]) > 2 * left + _SPARE:
            self._sweep(ticket.lane, heap)

    def serve(self, ticket: Ticket[T]) -> None:
        """Takes an item out and charges its client."""
        self._bands[ticket.rank].charge(ticket.client, ticket.cost_tokens)
        self.remove(ticket)

    def head(self, without: Collection[Hashable] = ()) -> Ticket[T] | None:
        """What is served next, of the lanes that are not in `without`."""
        best: _Entry[T] | None = None
        for lane in self._lane_sizes:
            if lane in without:
                continue
            entry = self._lane_head(lane)
            if best is None or entry < best:
                best = entry
        return None if best is None else next(iter(best[3].tickets.values()))

    def in_lane(self, lane: Hashable) -> list[Ticket[T]]:
        """All that wait in a lane, oldest first."""
        return [ticket for ticket in self._tickets.values() if ticket.lane == lane]

    def count_ahead(self, *, client: str, priority: int, resumed: bool) -> int:
        """How many would be served before a new item, taking clients' items for equally costly."""
        rank = (0 if resumed else 1, -priority)
        ahead = sum(band.size for other, band in self._bands.items() if other < rank)
        band = self._bands.get(rank)
        if band is None:
            return ahead
        own = band.waiting.get(client, 0)
        others = len(band.waiting) - (client in band.waiting)
        return ahead + min(band.size, own + (own + 1) * others)

    def find_displaced(self, *, client: str, priority: int, resumed: bool) -> Ticket[T] | None:
        """What has to leave a full queue for a new item: the newest of the client that has most of the lowest rank.

        None when the new item is the one to be refused: nothing ranks lower, and no client has more of its rank than
        its own would then have. O(n), for a full queue only.
        """
        rank = (0 if resumed else 1, -priority)
        lowest = max(self._bands, default=rank)
        if lowest < rank:
            return None
        band = self._bands.get(lowest)
        if band is None:
            return None
        most = max(band.waiting, key=band.waiting.__getitem__)
        if lowest == rank and band.waiting[most] <= band.waiting.get(client, 0) + 1:
            return None
        tickets = reversed(self._tickets.values())
        return next(ticket for ticket in tickets if ticket.rank == lowest and ticket.client == most)

    def _lane_head(self, lane: Hashable) -> _Entry[T]:
        """The entry of the lane's first flow. A flow's level and number only grow: what is outdated comes up first."""
        heap = self._heaps[lane]
        while True:
            entry = heap[0]
            flow = entry[3]
            if not flow.tickets:
                heapq.heappop(heap)
                self._drop_flow(flow)
                continue
            true = (flow.rank, self._bands[flow.rank].levels[flow.client], next(iter(flow.tickets)), flow)
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
            if not flow.tickets:
                self._drop_flow(flow)
        self._heaps[lane] = [entry for entry in heap if entry[3].tickets]
        heapq.heapify(self._heaps[lane])

    def _drop_flow(self, flow: _Flow[T]) -> None:
        """Forgets an empty flow, unless another one took its place when its client came back."""
        key = (flow.rank, flow.lane, flow.client)
        if self._flows.get(key) is flow:
            del self._flows[key]
