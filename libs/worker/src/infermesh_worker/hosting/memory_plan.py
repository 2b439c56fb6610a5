"""Decides which models to unload so that another one fits in memory."""

from collections.abc import Sequence
from dataclasses import dataclass

from infermesh_runtime.errors import ResourceExhausted


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A model and the memory that it holds."""

    name: str
    memory_bytes: int
    evictable: bool
    """Idle and not pinned."""
    last_used_s: float
    """On a clock that all holdings share."""


def free_bytes(budget_bytes: int, holdings: Sequence[Holding]) -> int:
    """What the models leave of the budget; negative when they hold more."""
    return budget_bytes - sum(holding.memory_bytes for holding in holdings)


def plan_eviction(name: str, needed_bytes: int, budget_bytes: int, holdings: Sequence[Holding]) -> tuple[str, ...]:
    """The models to unload so that `name` fits: as few as possible, least recently used first.

    Raises ResourceExhausted (MODEL_DOES_NOT_FIT); its metadata has needed_bytes, and free_bytes after the eviction of
    every model that may be evicted.
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
            f"Model {name!r} does not fit in memory: it needs {needed_bytes} bytes, "
            f"and at most {room} of {budget_bytes} bytes can be freed.",
            reason="MODEL_DOES_NOT_FIT",
            metadata={"model": name, "needed_bytes": str(needed_bytes), "free_bytes": str(room)},
        )
    return _without_needless(evicted, room - needed_bytes)


def _without_needless(evicted: Sequence[Holding], spare_bytes: int) -> tuple[str, ...]:
    """Drops evictions that a later, larger one made unnecessary: loading a model again is expensive."""
    names = []
    for holding in evicted:
        if holding.memory_bytes <= spare_bytes:
            spare_bytes -= holding.memory_bytes
        else:
            names.append(holding.name)
    return tuple(names)
