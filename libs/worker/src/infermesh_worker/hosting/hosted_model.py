"""One hosted model: the client of its engine process, how many requests use it, and how long it has been idle."""

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime

from infermesh_worker.engine_client.engine_client import EngineClient
from infermesh_worker.engine_client.engine_status import EngineStatus, ServingState
from infermesh_worker.hosting.load_progress import LoadMeter, LoadTimes
from infermesh_worker.hosting.memory_plan import Holding
from infermesh_worker.hosting.queue_bound import QueueBound
from infermesh_worker.hosting.worker_status import ModelStatus
from infermesh_worker.models.footprint import Footprint
from infermesh_worker.models.opened_model import OpenedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long a model stays loaded."""

    pinned: bool
    """Never unloaded to make room, nor for being idle."""
    keep_alive_s: float
    """How long after its last request it is unloaded; 0: never."""


class HostedModel:
    """A model with its engine process. Used from one event loop."""

    def __init__(
        self,
        opened: OpenedModel,
        client: EngineClient,
        retention: Retention,
        *,
        kv_bytes: int,
        estimated_bytes: int,
        footprint: Footprint | None,
        home: bool,
        bound: QueueBound,
        clock: Callable[[], float],
        times: LoadTimes,
        on_change: Callable[[], None],
    ) -> None:
        """`kv_bytes`: size of its KV cache; 0: the runner chose. `estimated_bytes`: memory it is counted with until the
        engine process reports its own figure.

        `footprint`: how small and how large its KV cache may become; None: it keeps its size. `home`:
        whether the worker was started with it. `bound`: how many sequences it accepts. `times`: how long loads
        took before. `on_change` is called when its status may have changed.
        """
        self.opened = opened
        self.client = client
        self.retention = retention
        self.kv_bytes = kv_bytes
        self.estimated_bytes = estimated_bytes
        self._footprint = footprint
        self._kv_limit_bytes = 0
        self.home = home
        self._bound = bound
        self._clock = clock
        self._on_change = on_change
        self._requests = 0
        self._preparing = 0
        """Sequences of requests that have a place here and are not yet in the engine."""
        self._last_used_s = clock()
        self._last_used_at: datetime | None = None
        self._load = LoadMeter(times, opened.name, opened.size_bytes, clock)
        client.status.listen(self._heard)

    @property
    def is_loading(self) -> bool:
        """Whether its first load has neither succeeded nor failed."""
        status = self.client.status.value
        return status.info is None and status.load_failure is None

    @property
    def in_use(self) -> bool:
        return self._requests > 0

    @property
    def sequences(self) -> int:
        """Sequences that have a place here: running, waiting, or still being prepared."""
        return self.client.sequences + self._preparing

    @property
    def memory_bytes(self) -> int:
        """Memory it holds, or is about to hold, with its whole KV cache."""
        status = self.client.status.value
        if status.info is None or not status.memory_bytes:
            return self.estimated_bytes
        return status.memory_bytes - status.info.kv_cache_bytes + self.kv_cache_bytes

    @property
    def kv_cache_bytes(self) -> int:
        """Memory reserved for its KV cache, the larger one while it changes."""
        return max(self._kv_limit_bytes, self.client.status.value.kv_cache_bytes) or self.kv_bytes

    @property
    def firm_bytes(self) -> int:
        """Memory that it holds even if its KV cache shrinks as far as it may."""
        return self.memory_bytes - self.shrinkable_bytes

    @property
    def shrinkable_bytes(self) -> int:
        """Memory that its KV cache can give up: all but one whole context, or twice what running requests use."""
        status = self.client.status.value
        if status.info is None or not status.info.kv_shrinks or self._footprint is None:
            return 0
        used = int(status.load.kv_cache_usage * status.kv_cache_bytes) if self.in_use else 0
        return max(0, self.kv_cache_bytes - max(self._footprint.kv_least_bytes, 2 * used))

    def best_kv_bytes(self, budget_bytes: int, unclaimed_bytes: int) -> int:
        """The size that its KV cache should have, if it may change. See Footprint.kv_bytes.

        `unclaimed_bytes`: memory that no model has, by the budget of `budget_bytes`.
        """
        info = self.client.status.value.info
        if info is None or not info.kv_shrinks or self._footprint is None:
            return self.kv_cache_bytes
        free_bytes = unclaimed_bytes + self.kv_cache_bytes + self._footprint.base_bytes
        return min(info.kv_cache_bytes, self._footprint.kv_bytes(budget_bytes, 0, free_bytes))

    @property
    def idle_s(self) -> float:
        """Time since its last request; 0 while a request uses it or while it loads."""
        return 0.0 if self.in_use or self.is_loading else self._clock() - self._last_used_s

    @property
    def overdue(self) -> bool:
        """Whether it has been idle for its whole keep-alive time."""
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

    @contextmanager
    def preparing(self, n: int) -> Iterator[None]:
        """Holds a place for the `n` sequences of a request that is being prepared in the block."""
        self._preparing += n
        try:
            yield
        finally:
            self._preparing -= n

    def limit_kv(self, kv_cache_bytes: int) -> Awaitable[None]:
        """Shrinks its KV cache, or lets it grow again. The result is there when what it no longer uses is free."""
        self._kv_limit_bytes = kv_cache_bytes
        self._on_change()
        return self.client.limit_kv(kv_cache_bytes)

    def touch(self) -> None:
        """Restarts its idle time."""
        self._last_used_s = self._clock()

    def continue_idle(self, old: "HostedModel") -> None:
        """Takes over when `old`, the same model before it was unloaded, was last used."""
        self._last_used_s, self._last_used_at = old._last_used_s, old._last_used_at
        self._on_change()

    async def loaded(self) -> None:
        """Waits until it is READY, which starts its idle time.

        Raises the error of a failed load, and Unavailable when the worker stops.
        """
        async for status in self.client.status.changes():
            if status.state is ServingState.READY:
                self._last_used_s = self._clock()
                return
            if status.load_failure is not None:
                raise status.load_failure.error()
            if status.state is ServingState.DRAINING:
                break
        raise self.client.status.value.refusal()

    def status(self) -> ModelStatus:
        """Its status now."""
        return ModelStatus(
            opened=self.opened,
            engine=self.client.status.value,
            memory_bytes=self.firm_bytes,
            kv_cache_bytes=self.kv_cache_bytes,
            sequences=self.client.sequences,
            bound=self._bound,
            pinned=self.retention.pinned,
            keep_alive_s=self.retention.keep_alive_s,
            last_used_at=self._last_used_at,
            home=self.home,
            progress=self._load.progress,
        )

    def holding(self) -> Holding:
        """The memory it holds, and whether it may be evicted."""
        return Holding(
            name=self.opened.name,
            memory_bytes=self.memory_bytes,
            evictable=not (self.retention.pinned or self.in_use or self.is_loading),
            last_used_s=self._last_used_s,
            in_use=self.in_use,
            shrinkable_bytes=self.shrinkable_bytes,
            unwritten_bytes=self._unwritten_bytes(),
        )

    def _heard(self, status: EngineStatus) -> None:
        self._load.heard(status)
        self._on_change()

    def _unwritten_bytes(self) -> int:
        """Memory of its KV cache that it has not taken from the system yet."""
        status = self.client.status.value
        if status.info is None or not status.info.kv_shrinks or not status.load.kv_cache_tokens:
            return 0
        return int(self.kv_cache_bytes * (1 - min(1.0, status.load.kv_written_tokens / status.load.kv_cache_tokens)))
