"""Orders one client's waiting items among its members: the member served least, then age."""

from collections import OrderedDict
from typing import Generic, Protocol, TypeVar


class MemberItem(Protocol):
    """What the order needs to know of an item."""

    @property
    def member(self) -> str:
        """Whom the client sends it for."""

    @property
    def cost_tokens(self) -> float:
        """What serving it uses up, in tokens."""


T = TypeVar("T", bound=MemberItem)

_MAX_LEVELS = 1024


class Turns(Generic[T]):
    """Items by member and number, with what each waiting member was served. `head` is O(members). Pure."""

    __slots__ = ("_items", "_levels", "_served_level")

    def __init__(self) -> None:
        self._items: dict[str, OrderedDict[int, T]] = {}
        self._levels: dict[str, float] = {}
        self._served_level = 0.0
        """Where a member begins that starts to wait, so that nobody saves up turns."""

    def add(self, number: int, item: T) -> None:
        """Adds an item in its place by number, which is its age: usually it is the newest."""
        if item.member not in self._items:
            self._items[item.member] = OrderedDict()
            self._levels[item.member] = max(self._levels.get(item.member, 0.0), self._served_level)
        items = self._items[item.member]
        returns = bool(items) and number < next(reversed(items))
        items[number] = item
        if returns:
            self._items[item.member] = OrderedDict(sorted(items.items()))

    def remove(self, number: int, item: T) -> None:
        """Takes out an item."""
        items = self._items[item.member]
        del items[number]
        if items:
            return
        del self._items[item.member]
        if self._levels[item.member] <= self._served_level:
            del self._levels[item.member]

    def charge(self, item: T) -> None:
        """Notes that an item is served; `remove` takes it out."""
        level = self._levels[item.member]
        self._served_level = max(self._served_level, level)
        self._levels[item.member] = level + item.cost_tokens
        if len(self._levels) - len(self._items) > _MAX_LEVELS:  # there is no bound on how many members there are
            self._levels = {member: self._levels[member] for member in self._items}

    def refund(self, item: T) -> None:
        """Undoes the charge of an item that was served nothing and has come back, unless it was forgotten since."""
        if item.member in self._levels:
            self._levels[item.member] = max(0.0, self._levels[item.member] - item.cost_tokens)

    def head(self) -> T:
        """The item to serve next. Raises ValueError if there is none."""
        if len(self._items) == 1:  # the usual case
            items = next(iter(self._items.values()))
        else:
            member = min(self._items, key=lambda member: (self._levels[member], next(iter(self._items[member]))))
            items = self._items[member]
        return next(iter(items.values()))
