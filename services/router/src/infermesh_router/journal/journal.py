"""Keeps the last events of the mesh, which every listener reads at its own pace. Each is encoded once, if at all."""

import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

import orjson

from infermesh_router.fleet.changes import Changes
from infermesh_router.policy.choice import Choice
from infermesh_router.policy.snapshot import Wanted

KEPT_EVENTS = 200
"""Events that a new listener is sent first, and by which a slow one may be late before it loses some."""


class Event:
    """One event. `client` is whose request it is about, "" if it is about none."""

    __slots__ = ("_encoded", "_make", "client", "journal", "kind", "model", "number")

    def __init__(
        self, journal: str, number: int, kind: str, make: Callable[[], Mapping[str, Any]], *, client: str, model: str
    ) -> None:
        self.journal = journal
        self.number = number
        self.kind = kind
        self.client = client
        self.model = model
        self._make = make
        self._encoded: bytes | None = None

    @property
    def data(self) -> Mapping[str, Any]:
        """What it tells: the fields of its message in mesh.proto."""
        return self._make()

    @property
    def encoded(self) -> bytes:
        """The event as a server-sent event; all listeners share the same bytes."""
        if self._encoded is None:
            self._encoded = frame(self.kind, orjson.dumps(self._make()), f"{self.journal}-{self.number + 1}")
        return self._encoded


def position(journal: str, number: int) -> bytes:
    """A server-sent event of an id alone: how far its listener has come, where there is nothing that it may see."""
    return f"id: {journal}-{number}\n\n".encode()


def frame(kind: str, data: bytes, event_id: str = "") -> bytes:
    """A server-sent event. `data`: as JSON. `event_id`: which events its listener has had by then, see positions.py."""
    named = f"event: {kind}\nid: {event_id}" if event_id else f"event: {kind}"
    return named.encode() + b"\ndata: " + data + b"\n\n"


class Journal:
    """The last events. Noting one costs a few microseconds; its data is made and encoded when somebody reads it."""

    def __init__(self, *, kept: int = KEPT_EVENTS, clock: Callable[[], float] = time.time) -> None:
        self.changes = Changes()
        """Tells listeners of new events."""
        self.name = uuid4().hex[:12]
        """Tells it from those of other routers, and of this one before it was started again."""
        self._clock = clock
        self._events: deque[Event] = deque(maxlen=kept)
        self._count = 0

    @property
    def count(self) -> int:
        """Number of events so far; the next one has this number."""
        return self._count

    def since(self, number: int) -> list[Event]:
        """The kept events from this number on, oldest first."""
        missing = self._count - number
        if missing <= 0:
            return []
        events = list(self._events)
        return events[-missing:] if missing < len(events) else events

    def chosen(self, request_id: str, wanted: Wanted, choice: Choice) -> None:
        """Notes that an endpoint was chosen for a request."""
        now_s, model = self._clock(), wanted.model

        def tell() -> Mapping[str, Any]:
            return {
                "time": now_s,
                "request_id": request_id,
                "model": model,
                "endpoint": choice.address,
                "reason": choice.reason,
                "score": choice.score,
                "seconds": choice.seconds,
                "runners_up": [each._asdict() for each in choice.runners_up],
            }

        self._note("choice", tell, client=wanted.client, model=model)

    def note(self, kind: str, *, client: str = "", model: str | None = None, **fields: object) -> None:
        """Notes an event of another kind, with the fields of its message. `model`: None if it has no such field."""
        data = {"time": self._clock(), **fields, **({} if model is None else {"model": model})}
        self._note(kind, lambda: data, client=client, model=model or "")

    def _note(self, kind: str, make: Callable[[], Mapping[str, Any]], *, client: str, model: str) -> None:
        self._events.append(Event(self.name, self._count, kind, make, client=client, model=model))
        self._count += 1
        self.changes.notify()
