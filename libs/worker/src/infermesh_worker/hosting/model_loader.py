"""Loads the models of a worker, one at a time; evicts idle ones to make room; unloads others at any time."""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from infermesh_runtime.background.shared_call import SharedCall
from infermesh_runtime.background.tasks import BackgroundTask, TaskSupervisor
from infermesh_runtime.errors import InfermeshError, ModelNotFound, Unavailable
from infermesh_worker.device.worker_device import WorkerDevice
from infermesh_worker.hosting.hosted_model import HostedModel, Retention
from infermesh_worker.hosting.hosted_models import HostedModels
from infermesh_worker.hosting.in_use import check_unused
from infermesh_worker.hosting.keep_alive import KeepAlive
from infermesh_worker.hosting.queue_bound import QueueBound
from infermesh_worker.hosting.restoring import restore, with_lost
from infermesh_worker.hosting.room import Room
from infermesh_worker.models.catalog import Catalog, CatalogEntry
from infermesh_worker.models.opened_model import OpenedModel

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLimits:
    """How much the models of a worker may take, and for how long."""

    bound: QueueBound
    keep_alive_s: float
    """Keep-alive time of models that are loaded without one of their own; 0: they stay."""
    kv_cache_bytes: int = 0
    """Size of each model's KV cache; 0: chosen from the model's context length and the memory budget."""


class ModelLoader:
    """Changes which models a worker hosts. Used from one event loop."""

    def __init__(
        self,
        catalog: Catalog,
        models: HostedModels,
        device: WorkerDevice,
        limits: ModelLimits,
        *,
        on_change: Callable[[], None],
        tasks: TaskSupervisor | None = None,
    ) -> None:
        """`on_change` is called after each change of what the worker reports."""
        self._catalog = catalog
        self._models = models
        self._device = device
        self._limits = limits
        self._on_change = on_change
        self._keep_alives: dict[str, KeepAlive] = {}
        self._default = Retention(pinned=False, keep_alive_s=limits.keep_alive_s)
        self._wishes: dict[str, Retention] = {}
        self._one_load_at_a_time = asyncio.Lock()
        self._loads: dict[str, SharedCall[tuple[str, ...]]] = {}
        self._tasks = tasks or TaskSupervisor()
        self._room = Room(models, device, kv_cache_bytes=limits.kv_cache_bytes)
        self._expiries: dict[str, BackgroundTask] = {}
        self._closed = False
        self._home_name = ""
        self.entries: Mapping[str, CatalogEntry] = {}
        """The catalog as it was last read."""

    async def rescan(self) -> None:
        """Reads the catalog again."""
        entries = await asyncio.to_thread(self._catalog.entries)
        if entries != self.entries:
            self.entries = entries
            self._on_change()

    async def start_home(self, opened: OpenedModel) -> None:
        """Starts loading the model that the worker was started with, and pins it."""
        estimate = self._room.estimated_home_bytes(self.entries.get(opened.name)) or opened.size_bytes
        self._home_name, retention = opened.name, replace(self._default, pinned=True)
        kv = self._limits.kv_cache_bytes
        home = await self._add(opened, retention, kv_bytes=kv, estimated_bytes=estimate, home=True)
        self._tasks.start("home model", partial(self._room.fit, home))

    async def load(self, name: str, *, pinned: bool = False, keep_alive_s: float | None = None) -> tuple[str, ...]:
        """Loads a model and waits until it is READY; returns the models that were unloaded to make room.

        Callers that ask for the same model at the same time share one load, which goes on when they leave. Raises
        ModelNotFound, ResourceExhausted (MODEL_DOES_NOT_FIT), Unavailable, and the error of a load that failed. After
        such a failure the unloaded models are loaded again; the error names those that could not be.
        """
        self._refuse_when_closed()
        load = self._loads.get(name)
        if load is None:
            load = self._loads[name] = SharedCall(self._tasks, "load", partial(self._load, name), about=name)
            load.on_done(partial(self._load_done, name, load))
        # Before the load, so that it is never without its pin; after it, in case the model was replaced meanwhile.
        self._retain(name, pinned, keep_alive_s)
        unloaded = await load.result()
        if name in self._models:
            self._retain(name, pinned, keep_alive_s)
        return unloaded

    async def unload(self, name: str, *, force: bool = False) -> None:
        """Unloads a model and waits until its memory is free. With `force`, requests that run on it fail.

        Waits for a load of this model, and for no other one.

        Raises NotFound when it is not loaded and FailedPrecondition (MODEL_IN_USE) while requests run.
        """
        if name in self._models:
            check_unused(self._models, name, force=force)
        if (load := self._loads.get(name)) is not None:
            await load.settled()
        check_unused(self._models, name, force=force)
        await self._remove(name)

    def holds(self, name: str) -> bool:
        """Whether a model is hosted, or a load of it has begun."""
        return name in self._models or name in self._loads

    def close(self) -> None:
        """Refuses loads from now on."""
        self._closed = True

    async def stop(self) -> None:
        """Stops loads and timers. The hosted models stay as they are."""
        for keep_alive in self._keep_alives.values():
            keep_alive.stop()
        for expiry in self._expiries.values():
            expiry.stop()
        await asyncio.gather(
            *(load.stop() for load in list(self._loads.values())),
            *(expiry.wait() for expiry in self._expiries.values()),
        )

    async def _load(self, name: str) -> tuple[str, ...]:
        if (present := self._models.get(name)) is not None:
            await present.loaded()
            return ()
        async with self._one_load_at_a_time:
            if (restored := self._models.get(name)) is not None:  # while this load waited
                await restored.loaded()
                return ()
            entry = await self._entry(name)
            await self._home_loaded()
            await self._device.known()
            # Opened first: no model is unloaded for one whose files cannot be used.
            opened = await asyncio.to_thread(self._catalog.open, name)
            await self._models.removed()  # until then their memory is not free
            plan = self._room.plan(entry)
            try:
                await self._room.shrink(plan)
                evicted = await self._evict(plan.evicted)
                hosted = await self._add_or_restore(entry, opened, evicted, plan.kv_bytes)
            finally:
                self._room.grow()
            hosted.touch()
            self._keep_alives[name].arm()
            unloaded = tuple(model.opened.name for model in evicted)
            _log.info("model loaded", extra={"model": name, "unloaded": unloaded, "memory_bytes": hosted.memory_bytes})
            return unloaded

    async def _add_or_restore(
        self, entry: CatalogEntry, opened: OpenedModel, evicted: Sequence[HostedModel], kv_bytes: int
    ) -> HostedModel:
        """Starts a model and waits until it is READY. If that fails, the evicted models are loaded again."""
        try:
            self._refuse_when_closed()
            return await self._add_ready(
                opened,
                self._wishes.pop(entry.name, self._default_of(entry.name)),
                kv_bytes=kv_bytes,
                estimated_bytes=self._room.estimated_bytes(entry, kv_bytes),
                home=False,
            )
        except Exception as error:  # a bug of ours too: what was unloaded for it must not stay lost
            lost = {} if self._closed else await restore(evicted, self._add_again)
            raise (with_lost(error, lost) if isinstance(error, InfermeshError) else error) from error

    async def _add_ready(
        self, opened: OpenedModel, retention: Retention, *, kv_bytes: int, estimated_bytes: int, home: bool
    ) -> HostedModel:
        """Like `_add`, but waits until the model is READY. Removes it when that fails."""
        try:
            hosted = await self._add(opened, retention, kv_bytes=kv_bytes, estimated_bytes=estimated_bytes, home=home)
            await hosted.loaded()
        except BaseException:
            if opened.name in self._models:
                await self._remove(opened.name)
            raise
        return hosted

    async def _add_again(self, old: HostedModel) -> None:
        """Loads an evicted model again, as it was."""
        hosted = await self._add_ready(
            old.opened, old.retention, kv_bytes=old.kv_bytes, estimated_bytes=old.estimated_bytes, home=old.home
        )
        hosted.continue_idle(old)
        self._keep_alives[old.opened.name].arm()

    async def _home_loaded(self) -> None:
        """Waits for the home model, whose memory is not known while it loads."""
        for hosted in self._models.all:
            if hosted.is_loading:
                with suppress(InfermeshError):
                    await hosted.loaded()

    async def _entry(self, name: str) -> CatalogEntry:
        if name not in self.entries:
            await self.rescan()
        if name not in self.entries:
            names = ", ".join(self.entries) or "none"
            raise ModelNotFound(
                f"There is no model {name!r} on this worker. Available models: {names}.",
                metadata={"model": name, "models": names},
            )
        return self.entries[name]

    async def _evict(self, names: Sequence[str]) -> tuple[HostedModel, ...]:
        """Unloads the models that must give way; returns them."""
        evicted = tuple(model for model in self._models.all if model.opened.name in names)
        await asyncio.gather(*(self._remove(name) for name in names))
        return evicted

    async def _add(
        self, opened: OpenedModel, retention: Retention, *, kv_bytes: int, estimated_bytes: int, home: bool
    ) -> HostedModel:
        hosted = await self._models.add(
            opened,
            retention,
            kv_bytes=kv_bytes,
            estimated_bytes=estimated_bytes,
            footprint=self._room.footprint(self.entries.get(opened.name)),
            home=home,
        )
        self._keep_alives[opened.name] = KeepAlive(
            hosted, lambda: self._expire(opened.name), name=opened.name, tasks=self._tasks
        )
        return hosted

    async def _remove(self, name: str) -> None:
        if name not in self._models:  # somebody else removes it now
            await self._models.removed()
            return
        if (keep_alive := self._keep_alives.pop(name, None)) is not None:
            keep_alive.stop()
        await self._models.remove(name)
        if not self._one_load_at_a_time.locked():
            self._room.grow()

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
        """The retention of a model whose load asks for none. The home model stays pinned, even after an unload."""
        return replace(self._default, pinned=name == self._home_name)

    def _expire(self, name: str) -> None:
        self._expiries[name] = self._tasks.start("expiry", partial(self._unload_idle, name), about=name)

    async def _unload_idle(self, name: str) -> None:
        hosted = self._models.get(name)
        if hosted is None:
            return
        if hosted.overdue:
            await self._remove(name)
        else:
            self._keep_alives[name].arm()

    def _load_done(self, name: str, load: SharedCall[tuple[str, ...]]) -> None:
        del self._loads[name]
        self._wishes.pop(name, None)
        if (error := load.error) is not None:
            _log.warning("model not loaded", extra={"model": name, "reason": str(error)})

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise Unavailable(
                "The worker is stopping and loads no more models.", reason="WORKER_DRAINING", retry_after_s=1.0
            )
