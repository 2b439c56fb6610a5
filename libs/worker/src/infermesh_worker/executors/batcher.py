"""Decides which waiting items run together, and when. Pure: it takes the time as an argument and starts nothing."""

from bisect import insort
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from infermesh_runtime.manifest.model_kind import BatchLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """An item that waits to be run."""

    request_id: str
    group: Hashable | None
    """Items of equal groups may run together; None: it runs alone."""
    size: int
    """How much of a batch it takes, at least 1."""
    arrived_s: float
    priority: int = 0
    """Larger ones first; equal ones in the order in which they came."""
    deadline_s: float | None = None
    """When it is dropped if it has not begun to run; None: never."""


@dataclass(slots=True)
class _Queue:
    """The items of one group, those that are served first in front."""

    places: list[tuple[int, int, str]] = field(default_factory=list)
    """(-priority, number in order of arrival, request id)."""


class Batcher:
    """Items that wait, by group. A time is in seconds on any clock, always the same one."""

    def __init__(self, limits: BatchLimits) -> None:
        self._limits = limits
        self._delay_s = limits.max_delay_ms / 1000
        self._items: dict[str, Waiting] = {}
        self._places: dict[str, tuple[int, int, str]] = {}
        self._queues: dict[Hashable | None, _Queue] = {}
        self._came = 0

    def __len__(self) -> int:
        """How many items wait."""
        return len(self._items)

    def add(self, item: Waiting) -> None:
        """Lets an item wait. Its request id must not be that of another item that waits."""
        place = (-item.priority, self._came, item.request_id)
        self._came += 1
        self._items[item.request_id] = item
        self._places[item.request_id] = place
        insort(self._queues.setdefault(item.group, _Queue()).places, place)

    def remove(self, request_id: str) -> bool:
        """Forgets an item; returns whether it waited."""
        item = self._items.pop(request_id, None)
        if item is None:
            return False
        queue = self._queues[item.group]
        queue.places.remove(self._places.pop(request_id))
        if not queue.places:
            del self._queues[item.group]
        return True

    def drop_expired(self, now_s: float) -> list[str]:
        """Removes the items whose deadline has passed; returns their request ids."""
        late = [item.request_id for item in self._items.values() if _expired(item, now_s)]
        for request_id in late:
            self.remove(request_id)
        return late

    def take(self, now_s: float) -> list[Waiting]:
        """Removes and returns the items to run next, together; none if all had better wait for more.

        Groups are tried in the order of their first items. A batch is ready when the next item of its group does not
        fit any more, when it has a preferred size, or when one of its items has waited for the longest delay.
        """
        for group, queue in sorted(self._queues.items(), key=lambda entry: entry[1].places[0]):
            items = [self._items[request_id] for _, _, request_id in queue.places]
            if chosen := items[:1] if group is None else self._ready(items, now_s):
                for item in chosen:
                    self.remove(item.request_id)
                return chosen
        return []

    def due_s(self) -> float | None:
        """When `take` or `drop_expired` may have something that they do not have now; None: not before more items come.

        Assumes that `take` has just returned nothing.
        """
        times = [item.arrived_s + self._delay_s for item in self._items.values()]
        deadline_s = self.next_deadline_s()
        return min(times if deadline_s is None else [*times, deadline_s], default=None)

    def next_deadline_s(self) -> float | None:
        """When `drop_expired` may have something; None: no item has a deadline."""
        return min((item.deadline_s for item in self._items.values() if item.deadline_s is not None), default=None)

    def _ready(self, items: Sequence[Waiting], now_s: float) -> list[Waiting]:
        """The first items of a group that should run now; none if they should wait."""
        sums = list(accumulate(item.size for item in items))
        fitting = max(1, sum(total <= self._limits.max_size for total in sums))
        chosen = list(items[:fitting])
        if fitting < len(items) or sums[fitting - 1] >= self._limits.max_size:
            return chosen
        if any(now_s >= item.arrived_s + self._delay_s for item in chosen):
            return chosen
        preferred = [count for count, total in enumerate(sums, 1) if total in self._limits.preferred_sizes]
        return chosen[: preferred[-1]] if preferred else []


def _expired(item: Waiting, now_s: float) -> bool:
    return item.deadline_s is not None and now_s >= item.deadline_s
