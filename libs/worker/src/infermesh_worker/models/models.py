"""Owns which models are loaded: finds the one a request means, loads, unloads, evicts. Knows no gRPC and no device.

What has to go is decided by `memory_plan`; here it is done. Used from one event loop.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace

from infermesh_engine.requests.request import GenerationRequest
from infermesh_runtime.errors import (
    FailedPrecondition,
    InfermeshError,
    ModelNotFound,
    NotFound,
    Unavailable,
)
from infermesh_worker.engine_process.front import Front
from infermesh_worker.engine_process.stream import Stream
from infermesh_worker.models.catalog import Catalog, CatalogEntry, OpenedModel
from infermesh_worker.models.device import Device
from infermesh_worker.models.hosted_model import HostedModel, Retention
from infermesh_worker.models.keep_alive import KeepAlive
from infermesh_worker.models.memory_plan import plan_eviction
from infermesh_worker.models.queue_bound import QueueBound
from infermesh_worker.models.requested_model import requested_model

_log = logging.getLogger(__name__)

MakeFront = Callable[[OpenedModel, int], Front]
"""Makes the front of a model; the number is the size of its KV cache in bytes, 0: the runner chooses."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What models may take, and for how long."""

    bound: QueueBound
    keep_alive_s: float
    """Of models that were loaded without one of their own; 0 is never."""
    kv_cache_bytes: int = 0
    """Of each model; 0: chosen from its context and the memory there is."""


class Models:
    """The loaded models of a worker, one engine process each."""

    def __init__(
        self,
        catalog: Catalog,
        make_front: MakeFront,
        device: Device,
        limits: Limits,
        *,
        on_change: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_change` is called after any change of what there is to say."""
        self._catalog = catalog
        self._make_front = make_front
        self._device = device
        self._limits = limits
        self._on_change = on_change
        self._clock = clock
        self._models: dict[str, HostedModel] = {}
        self._keep_alives: dict[str, KeepAlive] = {}
        self._leaving: list[HostedModel] = []
        self._default = Retention(pinned=False, keep_alive_s=limits.keep_alive_s)
        self._wishes: dict[str, Retention] = {}
        self._one_at_a_time = asyncio.Lock()
        self._tasks: dict[str, asyncio.Task[tuple[str, ...]]] = {}
        self._expiries: set[asyncio.Task[None]] = set()
        self._closed = False
        self._home_name = ""
        self.entries: Mapping[str, CatalogEntry] = {}
        """The catalog as it was last read."""

    @property
    def loaded(self) -> tuple[HostedModel, ...]:
        """In the order they were loaded."""
        return tuple(self._models.values())

    @property
    def held_bytes(self) -> int:
        """Memory that is taken, also by models whose process has not quite ended."""
        return sum(model.memory_bytes for model in (*self._models.values(), *self._leaving))

    async def rescan(self) -> None:
        """Reads the catalog again."""
        entries = await asyncio.to_thread(self._catalog.entries)
        if entries != self.entries:
            self.entries = entries
            self._on_change()

    async def start_home(self, opened: OpenedModel) -> None:
        """Starts loading the model that the worker was started for; it is pinned."""
        entry = self.entries.get(opened.served.name)
        estimate = self._needed_bytes(entry) if entry else opened.served.size_bytes
        self._home_name, retention = opened.served.name, replace(self._default, pinned=True)
        await self._host(opened, retention, kv_bytes=self._limits.kv_cache_bytes, estimated_bytes=estimate, home=True)

    def find(self, name: str) -> HostedModel:
        """The model that a request names; raises as `requested_model`."""
        return self._models[requested_model(name, self._models, self.entries)]

    @contextmanager
    def open(self, hosted: HostedModel, request: GenerationRequest) -> Iterator[Stream]:
        """Runs a request, as Front.open. Raises ResourceExhausted (QUEUE_FULL) when too many sequences wait."""
        n = request.n - sum(part.finished for part in request.generated)
        sequences = {name: model.front.sequences for name, model in self._models.items()}
        self._limits.bound.check(sequences, hosted.served.name, n)
        with hosted.front.open(request) as stream:
            yield stream

    async def load(self, name: str, *, pinned: bool = False, keep_alive_s: float | None = None) -> tuple[str, ...]:
        """Loads a model and waits until it is READY; returns the models that were unloaded to make room.

        A load goes on when who asked for it leaves; all who ask for the same model meanwhile share it. Raises
        ModelNotFound, ResourceExhausted (MODEL_DOES_NOT_FIT), Unavailable, and what the engine's load failed with.
        """
        self._refuse_when_closed()
        task = self._tasks.get(name)
        if task is None:
            task = self._tasks[name] = asyncio.create_task(self._load(name), name=f"load {name}")
            task.add_done_callback(lambda done: self._load_done(name, done))
        # Before, so that a model that shall be pinned is so as soon as it is there; after, should it have come anew.
        self._retain(name, pinned, keep_alive_s)
        unloaded = await asyncio.shield(task)
        if name in self._models:
            self._retain(name, pinned, keep_alive_s)
        return unloaded

    async def unload(self, name: str, *, force: bool = False) -> None:
        """Unloads a model and waits until its memory is free. With `force`, what runs on it fails.

        Raises NotFound when it is not loaded and FailedPrecondition (MODEL_IN_USE) while requests run.
        """
        if name in self._models:
            self._check_unused(name, force)
        async with self._one_at_a_time:
            self._check_unused(name, force)
            await self._remove(name)

    async def drain(self) -> None:
        """Refuses loads and requests for good and waits for the running ones, as Front.drain."""
        self._closed = True
        await asyncio.gather(*(model.front.drain() for model in self._models.values()))

    async def stop(self) -> None:
        """Ends every engine process."""
        for keep_alive in self._keep_alives.values():
            keep_alive.stop()
        tasks = [*self._tasks.values(), *self._expiries]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(model.front.stop() for model in (*self._models.values(), *self._leaving)))

    async def _load(self, name: str) -> tuple[str, ...]:
        async with self._one_at_a_time:
            if name in self._models:
                await self._models[name].loaded()
                return ()
            entry = await self._entry(name)
            await self._home_loaded()
            await self._device.known()
            evicted = await self._make_room(entry)
            opened = await asyncio.to_thread(self._catalog.open, name)
            self._refuse_when_closed()
            hosted = await self._host(
                opened,
                self._wishes.pop(name, self._default_of(name)),
                kv_bytes=entry.footprint.kv_bytes(self._device.budget_bytes, self._limits.kv_cache_bytes),
                estimated_bytes=self._needed_bytes(entry),
                home=False,
            )
            try:
                await hosted.loaded()
            except BaseException:
                await self._remove(name)
                raise
            hosted.touch()
            self._keep_alives[name].arm()
            _log.info("model loaded", extra={"model": name, "unloaded": evicted, "memory_bytes": hosted.memory_bytes})
            return evicted

    async def _home_loaded(self) -> None:
        """Until it is, nobody knows what it holds."""
        for hosted in self.loaded:
            if hosted.is_loading:
                with suppress(InfermeshError):
                    await hosted.loaded()

    async def _entry(self, name: str) -> CatalogEntry:
        if name not in self.entries:
            await self.rescan()
        if name not in self.entries:
            names = ", ".join(self.entries) or "none"
            raise ModelNotFound(
                f"there is no model {name!r} here; available: {names}", metadata={"model": name, "models": names}
            )
        return self.entries[name]

    def _needed_bytes(self, entry: CatalogEntry) -> int:
        return entry.footprint.needed_bytes(self._device.budget_bytes, self._limits.kv_cache_bytes)

    async def _make_room(self, entry: CatalogEntry) -> tuple[str, ...]:
        holdings = [model.holding() for model in self._models.values()]
        evicted = plan_eviction(entry.name, self._needed_bytes(entry), self._device.budget_bytes, holdings)
        await asyncio.gather(*(self._remove(name) for name in evicted))
        return evicted

    async def _host(
        self, opened: OpenedModel, retention: Retention, *, kv_bytes: int, estimated_bytes: int, home: bool
    ) -> HostedModel:
        """Starts a model's engine process."""
        front = self._make_front(opened, kv_bytes)
        name = opened.served.name
        # before the model's own listener, which makes the report
        front.status.listen(lambda status: self._device.learn(status.info) if status.info else None)
        hosted = HostedModel(
            opened.served,
            front,
            retention,
            estimated_bytes=estimated_bytes,
            home=home,
            clock=self._clock,
            on_change=self._on_change,
        )
        self._models[name] = hosted
        self._keep_alives[name] = KeepAlive(hosted, lambda: self._expire(name))
        await front.start()
        self._on_change()
        return hosted

    async def _remove(self, name: str) -> None:
        """Unloads a model: from now on no request finds it; its memory is free when this returns."""
        hosted = self._models.pop(name)
        self._keep_alives.pop(name).stop()
        self._leaving.append(hosted)
        hosted.front.retire(Unavailable(f"model {name!r} was unloaded", reason="MODEL_UNLOADED", retry_after_s=1.0))
        self._on_change()
        try:
            await hosted.front.stop()
        finally:
            self._leaving.remove(hosted)
            _log.info("model unloaded", extra={"model": name})
            self._on_change()

    def _retain(self, name: str, pinned: bool, keep_alive_s: float | None) -> None:
        hosted = self._models.get(name)
        kept = hosted.retention if hosted else self._wishes.get(name, self._default_of(name))
        wanted = Retention(
            pinned=kept.pinned or pinned,
            keep_alive_s=kept.keep_alive_s if keep_alive_s is None else keep_alive_s,
        )
        if hosted is None:
            self._wishes[name] = wanted
        elif wanted != kept:
            hosted.retention = wanted
            self._keep_alives[name].arm()
            self._on_change()

    def _default_of(self, name: str) -> Retention:
        """How long a model stays of which nothing is said: the settings' own always, also when it was unloaded once."""
        return replace(self._default, pinned=name == self._home_name)

    def _expire(self, name: str) -> None:
        task = asyncio.create_task(self._unload_idle(name), name=f"unload {name}")
        self._expiries.add(task)
        task.add_done_callback(self._expiries.discard)

    async def _unload_idle(self, name: str) -> None:
        async with self._one_at_a_time:
            hosted = self._models.get(name)
            if hosted is None:
                return
            if hosted.overdue:
                await self._remove(name)
            else:
                self._keep_alives[name].arm()

    def _check_unused(self, name: str, force: bool) -> None:
        hosted = self._models.get(name)
        if hosted is None:
            raise NotFound(f"model {name!r} is not loaded here", reason="MODEL_NOT_LOADED", metadata={"model": name})
        if hosted.in_use and not force:
            raise FailedPrecondition(f"requests run on model {name!r}", reason="MODEL_IN_USE", metadata={"model": name})

    def _load_done(self, name: str, task: asyncio.Task[tuple[str, ...]]) -> None:
        del self._tasks[name]
        self._wishes.pop(name, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.warning("model not loaded", extra={"model": name, "reason": str(error)})

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise Unavailable("the worker is stopping", reason="WORKER_DRAINING", retry_after_s=1.0)
