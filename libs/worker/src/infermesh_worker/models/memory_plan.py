"""Owns which models give way to another: decides over a frozen view, does nothing. Knows no process and no clock."""

from collections.abc import Sequence
from dataclasses import dataclass

from infermesh_runtime.errors import ResourceExhausted


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A model that holds memory."""

    name: str
    memory_bytes: int
    evictable: bool
    """Idle and not pinned."""
    last_used_s: float
    """Of a clock that all share."""


def free_bytes(budget_bytes: int, holdings: Sequence[Holding]) -> int:
    """What the models leave of the budget; negative when they hold more."""
    return budget_bytes - sum(holding.memory_bytes for holding in holdings)


def plan_eviction(name: str, needed_bytes: int, budget_bytes: int, holdings: Sequence[Holding]) -> tuple[str, ...]:
    """The models to unload so that `name` fits: as few as do, least recently used first.

    Raises ResourceExhausted (MODEL_DOES_NOT_FIT; metadata needed_bytes, and free_bytes once all that can is unloaded).
    """
    room = free_bytes(budget_bytes, holdings)
    evicted: list[Holding] = []
    for holding in sorted((h for h in holdings if h.evictable), key=lambda h: h.last_used_s):
        if room >= needed_bytes:
            break
        room += holding.memory_bytes
        evicted.append(holding)
    if room < needed_bytes:
        room = max(0, room)
        raise ResourceExhausted(
            f"model {name!r} does not fit: it needs {needed_bytes} bytes and {room} of {budget_bytes} can be made free",
            reason="MODEL_DOES_NOT_FIT",
            metadata={"model": name, "needed_bytes": str(needed_bytes), "free_bytes": str(room)},
        )
    return _without_needless(evicted, room - needed_bytes)


def _without_needless(evicted: Sequence[Holding], spare_bytes: int) -> tuple[str, ...]:
    """Leaves out what the later, larger ones made needless: an eviction costs a load."""
    names = []
    for holding in evicted:
        if holding.memory_bytes <= spare_bytes:
            spare_bytes -= holding.memory_bytes
        else:
            names.append(holding.name)
    return tuple(names)
