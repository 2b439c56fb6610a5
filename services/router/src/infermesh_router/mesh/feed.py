"""Feeds listeners with events and snapshots. All read the same kept events, so a slow one holds no memory."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

import orjson

from infermesh_router.journal.journal import Event, Journal, frame, position
from infermesh_router.journal.positions import Positions
from infermesh_router.mesh.view import MeshView
from infermesh_router.mesh.viewer import Viewer
from infermesh_runtime.errors import ResourceExhausted

SNAPSHOT_S = 0.5
"""Shortest time between two snapshots."""
QUIET_S = 5.0
"""Longest time between two snapshots."""
MOST_LISTENERS = 256
KEPT_SHARE = 8
"""One in so many places is kept for those who manage the mesh."""
_GATHER_S = 0.05
"""Events within this time are sent together."""
_ABOUT_ENDPOINTS = frozenset({"state", "restart"})
_MOST_VIEWS = 64
"""Most snapshots that are kept for callers who see different models."""


@dataclass(frozen=True, slots=True)
class _Snapshot:
    made_s: float
    version: int
    data: bytes
    """As JSON."""


class Feed:
    """The stream of events, for any number of listeners up to a limit."""

    def __init__(
        self,
        journal: Journal,
        view: MeshView,
        *,
        most_listeners: int = MOST_LISTENERS,
        snapshot_s: float = SNAPSHOT_S,
        quiet_s: float = QUIET_S,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._journal = journal
        self._view = view
        self._most = most_listeners
        self._snapshot_s = snapshot_s
        self._quiet_s = quiet_s
        self._clock = clock
        self._listeners = 0
        self._snapshots: dict[tuple[bool, tuple[str, ...]], _Snapshot] = {}
        """The last one, by whether a caller manages the mesh, and the models that it sees."""
        self._making = asyncio.Lock()

    @property
    def listeners(self) -> int:
        """How many listen."""
        return self._listeners

    @contextmanager
    def _listening(self, viewer: Viewer) -> Iterator[None]:
        most = self._most if viewer.manages else self._most - self._most // KEPT_SHARE
        if self._listeners >= most:
            raise ResourceExhausted(
                f"{most} listeners follow the events already. Close one of them.", reason="TOO_MANY_LISTENERS"
            )
        self._listeners += 1
        try:
            yield
        finally:
            self._listeners -= 1

    async def follow_events(
        self, viewer: Viewer, *, kept: bool, after: Positions | None = None
    ) -> AsyncGenerator[bytes, None]:
        """The events about requests, for another router, which notices the others itself.

        `kept`: also kept ones. `after`: how far the listener has come.
        """
        with self._listening(viewer):
            number = self._journal.count if after is None and not kept else self._begin(after or {})
            yield position(self._journal.name, number)  # so that the listener knows of this router from the start
            while True:
                version = self._journal.changes.version
                parts, number = self._news(number, viewer, _ABOUT_ENDPOINTS)
                if parts:
                    yield b"".join(parts)
                await asyncio.sleep(_GATHER_S)
                await self._journal.changes.wait_beyond(version)

    def _begin(self, after: Positions) -> int:
        """Number of the event to begin with: the next one for who was here before, else the oldest that is kept."""
        count = self._journal.count
        return min(after.get(self._journal.name, count - len(self._journal.since(0))), count)

    async def follow(self, viewer: Viewer, after: Positions | None = None) -> AsyncGenerator[bytes, None]:
        """Server-sent events: the kept ones, a snapshot, and then all as they happen. Raises ResourceExhausted.

        `after`: how far the listener had come, if it was here before.
        """
        with self._listening(viewer):
            number = self._begin(after or {})
            shown_s, version = float("-inf"), self._view.version
            while True:
                version_seen = self._journal.changes.version
                parts, number = self._news(number, viewer)
                now_s = self._clock()
                if self._is_due(now_s - shown_s, version):
                    snapshot = await self._snapshot(viewer, now_s)
                    version, shown_s = snapshot.version, now_s
                    parts.append(frame("snapshot", snapshot.data, f"{self._journal.name}-{number}"))
                if parts:
                    yield b"".join(parts)
                await asyncio.sleep(_GATHER_S)
                await self._wait(version_seen)

    def _is_due(self, age_s: float, version: int) -> bool:
        return age_s >= self._quiet_s or (age_s >= self._snapshot_s and self._view.changed_since(version))

    async def _wait(self, version: int) -> None:
        """Waits for an event, but no longer than until a snapshot may be due."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(self._snapshot_s, self._quiet_s) / 2):
                await self._journal.changes.wait_beyond(version)

    def _news(self, number: int, viewer: Viewer, without: Collection[str] = ()) -> tuple[list[bytes], int]:
        """The events from that number on which the caller may see, and the number of the next one.

        `without`: kinds that are left out. If the last event is not shown, an id says how far the listener has come.
        """
        events = self._journal.since(number)
        parts = []
        if events and (lost := events[0].number - number):  # which of them were about this caller is not known
            parts.append(frame("lost", orjson.dumps({"events": lost} if viewer.sees_all else {})))
        shown = [event for event in events if _shows(event, viewer) and event.kind not in without]
        parts += [event.encoded for event in shown]
        if events and events[-1] not in shown[-1:]:
            parts.append(position(self._journal.name, self._journal.count))
        return parts, self._journal.count

    async def _snapshot(self, viewer: Viewer, now_s: float) -> "_Snapshot":
        """The snapshot, which callers who see the same share while it is new."""
        async with self._making:
            seen = (viewer.manages, viewer.models)
            last = self._snapshots.get(seen)
            if last is not None and now_s - last.made_s < self._snapshot_s / 2:
                return last
            version = self._view.version
            data = orjson.dumps({**await self._view.as_json(viewer), "time": time.time()})
            if len(self._snapshots) >= _MOST_VIEWS:
                self._snapshots.clear()
            made = self._snapshots[seen] = _Snapshot(now_s, version, data)
            return made


def _shows(event: Event, viewer: Viewer) -> bool:
    return viewer.sees(event.client) and (not event.model or viewer.may_see(event.model))
