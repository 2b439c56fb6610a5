"""Decides which KV caches shrink, and which models are unloaded, so that another model fits in memory."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from infermesh_runtime.errors import ResourceExhausted
from infermesh_worker.models.footprint import Footprint


@dataclass(frozen=True, slots=True, kw_only=True)
class Holding:
    """A model and the memory that it holds."""

    name: str
    memory_bytes: int
    evictable: bool
    """Idle and not pinned."""
    last_used_s: float
    """On a clock that all holdings share."""
    in_use: bool = False
    shrinkable_bytes: int = 0
    """Part of memory_bytes that its KV cache can give up while it stays loaded."""
    unwritten_bytes: int = 0
    """Part of memory_bytes that it has not taken from the system yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RoomPlan:
    """How a model gets its memory."""

    evicted: tuple[str, ...]
    """Models to unload."""
    given_up: Mapping[str, int]
    """Model → bytes of its KV cache to give up."""
    kv_bytes: int
    """Size of the new model's KV cache."""


def plan_room(
    name: str,
    footprint: Footprint,
    holdings: Sequence[Holding],
    *,
    budget_bytes: int,
    kv_cache_bytes: int = 0,
    available_bytes: int | None = None,
) -> RoomPlan:
    """How the model `name` fits: idle KV caches shrink first, least recently used first, then those in use.

    Models are unloaded only if that is not enough. `available_bytes`: memory that the system has free; None: not known.
    `kv_cache_bytes`: size of each KV cache; 0: chosen. Raises ResourceExhausted as `plan_eviction` does.
    """
    held_bytes = sum(holding.memory_bytes for holding in holdings)
    bound_bytes = max(0, held_bytes + unclaimed_bytes(holdings, budget_bytes, available_bytes))
    firm = [replace(h, memory_bytes=h.memory_bytes - h.shrinkable_bytes) for h in holdings]
    evicted = plan_eviction(name, footprint.needed_bytes(budget_bytes, kv_cache_bytes), bound_bytes, firm)
    staying = [holding for holding in holdings if holding.name not in evicted]
    room = free_bytes(bound_bytes, staying)
    spare = sum(holding.shrinkable_bytes for holding in staying)
    kv_bytes = footprint.kv_bytes(budget_bytes, kv_cache_bytes, room + spare)
    lacking, given_up = footprint.base_bytes + kv_bytes - room, {}
    for holding in sorted(staying, key=lambda h: (h.in_use, h.last_used_s)):
        if lacking > 0 and holding.shrinkable_bytes:
            given_up[holding.name] = min(lacking, holding.shrinkable_bytes)
            lacking -= given_up[holding.name]
    return RoomPlan(evicted=evicted, given_up=given_up, kv_bytes=kv_bytes)


def unclaimed_bytes(holdings: Sequence[Holding], budget_bytes: int, available_bytes: int | None) -> int:
    """Memory that no model has, by the budget and by what the system has free; negative when they hold too much."""
    unclaimed = free_bytes(budget_bytes, holdings)
    if available_bytes is None:
        return unclaimed
    return min(unclaimed, available_bytes - sum(holding.unwritten_bytes for holding in holdings))


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
