"""Owns one loaded model of a worker: its engine's front, who uses it, and when it was last used. Knows no other model.

Used from one event loop.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from infermesh_worker.engine_process.front import Front
from infermesh_worker.engine_process.status import State
from infermesh_worker.models.memory_plan import Holding
from infermesh_worker.models.served_model import ServedModel
from infermesh_worker.models.worker_status import ModelView


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long a model stays."""

    pinned: bool
    """Never unloaded to make room, nor for being idle."""
    keep_alive_s: float
    """Time after its last request when it is unloaded; 0 is never."""


class HostedModel:
    """A model and its engine process."""

    def __init__(
        self,
        served: ServedModel,
        front: Front,
        retention: Retention,
        *,
        estimated_bytes: int,
        home: bool,
        clock: Callable[[], float],
        on_change: Callable[[], None],
    ) -> None:
        """`estimated_bytes`: memory it holds, until it says so itself. `on_change`: its view is another."""
        self.served = served
        self.front = front
        self.retention = retention
        self._estimated_bytes = estimated_bytes
        self._home = home
        self._clock = clock
        self._on_change = on_change
        self._requests = 0
        self._last_used_s = clock()
        self._last_used_at: datetime | None = None
        front.status.listen(lambda _: on_change())

    @property
    def is_loading(self) -> bool:
        """Whether it has never been READY, and has not failed to be."""
        status = self.front.status.value
        return status.info is None and status.load_failure is None

    @property
    def in_use(self) -> bool:
        return self._requests > 0

    @property
    def memory_bytes(self) -> int:
        """Memory that it holds, or is about to."""
        return self.front.status.value.memory_bytes or self._estimated_bytes

    @property
    def idle_s(self) -> float:
        """How long no request has used it; 0 while one does, and while it loads."""
        return 0.0 if self.in_use or self.is_loading else self._clock() - self._last_used_s

    @property
    def overdue(self) -> bool:
        """Whether it has been idle for longer than it is kept."""
        retention = self.retention
        return not retention.pinned and 0 < retention.keep_alive_s <= self.idle_s

    @contextmanager
    def used(self) -> Iterator[None]:
        """Keeps it loaded while the block runs."""
        self._requests += 1
        try:
            yield
        finally:
            self._requests -= 1
            self.touch()
            self._last_used_at = datetime.now(UTC)
            self._on_change()

    def touch(self) -> None:
        """Counts how long it is idle from now on."""
        self._last_used_s = self._clock()

    async def loaded(self) -> None:
        """Waits until it is READY, when its idle time begins.

        Raises what its load failed with, and Unavailable when the worker stops.
        """
        async for status in self.front.status.changes():
            if status.state is State.READY:
                self._last_used_s = self._clock()
                return
            if status.load_failure is not None:
                raise status.load_failure.error()
            if status.state is State.DRAINING:
                break
        raise self.front.status.value.refusal()

    def view(self) -> ModelView:
        """How it is now."""
        return ModelView(
            served=self.served,
            status=self.front.status.value,
            memory_bytes=self.memory_bytes,
            sequences=self.front.sequences,
            pinned=self.retention.pinned,
            last_used_at=self._last_used_at,
            home=self._home,
        )

    def holding(self) -> Holding:
        """What it holds, and whether it may go."""
        return Holding(
            name=self.served.name,
            memory_bytes=self.memory_bytes,
            evictable=not (self.retention.pinned or self.in_use or self.is_loading),
            last_used_s=self._last_used_s,
        )
