"""Owns a worker as a whole: its models, whether it takes requests, and what it says of itself. Knows no gRPC.

Used from one event loop.
"""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.engine_process.status import State, Status
from infermesh_worker.engine_process.watched import Derived
from infermesh_worker.models.catalog import Catalog, OpenedModel
from infermesh_worker.models.device import Device
from infermesh_worker.models.hosted_model import HostedModel
from infermesh_worker.models.models import Limits, MakeFront, Models
from infermesh_worker.models.worker_status import AvailableView, ModelView, WorkerStatus, overall_state, sum_loads

RESCAN_S = 1.0
"""How often the model folders are looked at."""

_log = logging.getLogger(__name__)


class Worker:
    """Requests in, to the model that each names; loads, drains and resumes."""

    def __init__(
        self, catalog: Catalog, make_front: MakeFront, device: Device, limits: Limits, home: OpenedModel | None
    ) -> None:
        """`home`: the model that is loaded from the start and stays; None: models come by `models.load` alone."""
        self._device = device
        self._limits = limits
        self._home = home
        self._refusal: Status | None = None
        self._device_problem = ""
        self._requests = 0
        self._changed = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.status = Derived(self._view)
        """What there is to say, to be read or followed."""
        self.models = Models(catalog, make_front, device, limits, on_change=self.status.touch)

    async def start(self) -> None:
        """Starts the home model's engine process; `status` tells when requests are taken."""
        await self.models.rescan()
        if self._home is not None:
            await self.models.start_home(self._home)
        else:
            self._tasks.append(asyncio.create_task(self._find_device(), name="device"))
        self._tasks.append(asyncio.create_task(self._follow_catalog(), name="catalog"))

    @contextmanager
    def use(self, name: str) -> Iterator[HostedModel]:
        """The model that a request names, kept loaded while the block runs. Raises as Models.find, and Unavailable."""
        if self._refusal is not None:
            raise self._refusal.refusal()
        hosted = self.models.find(name)
        self._requests += 1
        try:
            with hosted.used():
                yield hosted
        finally:
            self._requests -= 1
            if not self._requests and self._refusal is not None:
                self._wake()

    async def drain_requests(self) -> None:
        """Refuses new requests until `resume`; returns when nothing runs.

        Raises FailedPrecondition (RESUMED) when it is resumed before.
        """
        if self._refusal is None:
            self._refuse("an operator drains it")
        while self._requests and self._refusal is not None:
            await self._changed.wait()
        if self._refusal is None:
            raise FailedPrecondition("the worker was resumed before it was drained", reason="RESUMED")

    def resume(self) -> None:
        """Takes requests again. Raises FailedPrecondition when the worker is being stopped."""
        if self.status.closed:
            raise FailedPrecondition("the worker is stopping", reason="WORKER_DRAINING")
        self._refusal = None
        self.status.touch()
        self._wake()

    async def drain(self) -> None:
        """Refuses new requests for good and waits for the running ones; those that still run when cancelled fail."""
        self._refuse("the worker is stopping")
        try:
            await self.models.drain()
        finally:
            self.status.close()

    async def stop(self) -> None:
        """Ends every engine process; nothing of them is left when this returns."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.models.stop()

    def _refuse(self, why: str) -> None:
        self._refusal = Status(state=State.DRAINING, message=why)
        self.status.touch()

    async def _find_device(self) -> None:
        try:
            await self._device.known()
        except FailedPrecondition as error:
            _log.error(error.message)
            self._device_problem = error.message
        self.status.touch()

    async def _follow_catalog(self) -> None:
        while True:
            await asyncio.sleep(RESCAN_S)
            try:
                await self.models.rescan()
            except OSError as error:
                _log.warning("the models cannot be listed", extra={"reason": str(error)})

    def _wake(self) -> None:
        # Those that wait now are woken; those that come later wait for the next change.
        self._changed.set()
        self._changed.clear()

    def _view(self) -> WorkerStatus:
        models = tuple(model.view() for model in self.models.loaded)
        loads = [model.status.load for model in models]
        state, message = self._state(models)
        free_now = [model.status.memory_free_bytes for model in models if model.status.memory_free_bytes]
        return WorkerStatus(
            state=state,
            message=message,
            device=self._device.reported(self.models.held_bytes, min(free_now, default=0)),
            models=models,
            available=self._available(models),
            load=sum_loads(loads),
            max_running=self._limits.bound.max_running * max(1, len(models)),
            max_waiting=self._limits.bound.max_waiting,
        )

    def _state(self, models: tuple[ModelView, ...]) -> tuple[State, str]:
        if self._refusal is not None:
            return self._refusal.state, self._refusal.message
        if self._device_problem and not models:
            return State.FAILED, self._device_problem
        if self._home is None and self._device.facts is None:
            return State.LOADING, "the device is being looked at"
        return overall_state(models)

    def _available(self, models: tuple[ModelView, ...]) -> tuple[AvailableView, ...]:
        budget_bytes, kv_bytes = self._device.budget_bytes, self._limits.kv_cache_bytes
        views = {
            model.served.name: AvailableView(
                name=model.served.name,
                size_bytes=model.served.size_bytes,
                memory_bytes=model.memory_bytes,
                context_length=model.served.context_length,
            )
            for model in models
        }
        for entry in self.models.entries.values():
            views[entry.name] = AvailableView(
                name=entry.name,
                size_bytes=entry.size_bytes,
                memory_bytes=entry.footprint.needed_bytes(budget_bytes, kv_bytes),
                context_length=entry.context_length,
            )
        return tuple(views.values())
