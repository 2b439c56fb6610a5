"""One client's waiting items of one rank in one lane."""

from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from infermesh_router.admission.turns import MemberItem, Turns

T = TypeVar("T", bound=MemberItem)


@dataclass(slots=True, eq=False)
class Flow(Generic[T]):
    """The items by number, oldest first, and the order in which they are served."""

    rank: tuple[int, int]
    client: str
    lane: Hashable
    items: OrderedDict[int, T] = field(default_factory=OrderedDict)
    turns: Turns[T] = field(default_factory=Turns)
    """The same items."""

    def add(self, number: int, item: T) -> None:
        """Adds the newest item."""
        self.items[number] = item
        self.turns.add(number, item)

    def remove(self, number: int) -> None:
        """Takes out an item."""
        self.turns.remove(number, self.items.pop(number))
