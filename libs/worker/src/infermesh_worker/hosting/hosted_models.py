"""The models that have an engine process in this worker: finds them, runs requests on them, adds and removes them."""

import asyncio
import logging
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager

from infermesh_runtime.errors import Unavailable
from infermesh_runtime.manifest.model_kind import ModelKind
from infermesh_worker.device.worker_device import WorkerDevice
from infermesh_worker.engine_client.engine_client import EngineClient
from infermesh_worker.hosting.hosted_model import HostedModel, Retention
from infermesh_worker.hosting.load_progress import LoadTimes
from infermesh_worker.hosting.memory_plan import Holding
from infermesh_worker.hosting.model_kinds import of_kind
from infermesh_worker.hosting.model_names import resolve_model_name
from infermesh_worker.hosting.queue_bound import QueueBound
from infermesh_worker.models.footprint import Footprint
from infermesh_worker.models.opened_model import OpenedModel

_log = logging.getLogger(__name__)

MakeClient = Callable[[OpenedModel, int], EngineClient]
"""Makes the client of a model's engine process. The number is the size of its KV cache in bytes; 0: the runner chooses.
"""


class HostedModels:
    """All hosted models of a worker, whether loading, ready or failed. Used from one event loop.

    `ModelLoader` decides what is added and removed.
    """

    def __init__(
        self,
        make_client: MakeClient,
        device: WorkerDevice,
        bound: QueueBound,
        *,
        on_change: Callable[[], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`on_change` is called after each change of what the worker reports."""
        self._make_client = make_client
        self._device = device
        self._bound = bound
        self._on_change = on_change
        self._clock = clock
        self._times = LoadTimes()
        self._models: dict[str, HostedModel] = {}
        self._leaving: dict[HostedModel, asyncio.Event] = {}
        """Models whose engine process is still ending; the event tells when it has."""

    def __contains__(self, name: str) -> bool:
        return name in self._models

    @property
    def all(self) -> tuple[HostedModel, ...]:
        """In the order in which they were added."""
        return tuple(self._models.values())

    @property
    def held_bytes(self) -> int:
        """Memory of all models, including those whose engine process is still ending."""
        return sum(model.memory_bytes for model in (*self._models.values(), *self._leaving))

    @property
    def holdings(self) -> list[Holding]:
        """What each model holds, in the order in which they were added."""
        return [model.holding() for model in self._models.values()]

    @property
    def firm_bytes(self) -> int:
        """The part of it that further models cannot have, because no KV cache gives it up."""
        return self.held_bytes - sum(model.shrinkable_bytes for model in self._models.values())

    def get(self, name: str) -> HostedModel | None:
        return self._models.get(name)

    def find(self, name: str, available: Collection[str], kind: ModelKind | None = None) -> HostedModel:
        """The model that a request names; without a name, the only one of the kind that its call is for.

        Raises the errors of `resolve_model_name`.
        """
        hosted = self._models if name else of_kind(self._models, kind)
        return self._models[resolve_model_name(name, hosted, available)]

    @contextmanager
    def place(self, hosted: HostedModel, n: int) -> Iterator[None]:
        """A place in the model's queue for a request of `n` sequences, held while the block prepares the request.

        Open the stream as soon as the block has ended, before anything else is awaited. Raises ResourceExhausted
        (QUEUE_FULL).
        """
        self._bound.check(hosted.sequences, hosted.opened.name, n)
        with hosted.preparing(n):
            yield

    async def add(
        self,
        opened: OpenedModel,
        retention: Retention,
        *,
        kv_bytes: int,
        estimated_bytes: int,
        footprint: Footprint | None = None,
        home: bool,
    ) -> HostedModel:
        """Starts a model's engine process; returns before it is loaded. See HostedModel for the arguments."""
        client = self._make_client(opened, kv_bytes)
        # The device listens before the hosted model does, so that the report which that one triggers is up to date.
        client.status.listen(lambda status: self._device.learn(status.info) if status.info else None)
        hosted = HostedModel(
            opened,
            client,
            retention,
            kv_bytes=kv_bytes,
            estimated_bytes=estimated_bytes,
            footprint=footprint,
            home=home,
            bound=self._bound,
            clock=self._clock,
            times=self._times,
            on_change=self._on_change,
        )
        self._models[opened.name] = hosted
        await client.start()
        self._on_change()
        return hosted

    async def remove(self, name: str) -> None:
        """Ends a model's engine process. Requests no longer find it, and its memory is free when this returns."""
        hosted = self._models.pop(name)
        gone = self._leaving[hosted] = asyncio.Event()
        hosted.client.retire(
            Unavailable(f"Model {name!r} was unloaded from this worker.", reason="MODEL_UNLOADED", retry_after_s=1.0)
        )
        self._on_change()
        try:
            await hosted.client.stop()
        finally:
            hosted.opened.close()
            del self._leaving[hosted]
            gone.set()
            _log.info("model unloaded", extra={"model": name})
            self._on_change()

    async def removed(self) -> None:
        """Waits until every removal that has begun is done."""
        for gone in list(self._leaving.values()):
            await gone.wait()

    async def drain(self) -> None:
        """Refuses new requests for good and waits for the running ones, as EngineClient.drain does."""
        await asyncio.gather(*(model.client.drain() for model in self._models.values()))

    async def stop(self) -> None:
        """Ends every engine process."""
        models = (*self._models.values(), *self._leaving)
        for model in models:
            model.opened.close()
        await asyncio.gather(*(model.client.stop() for model in models))
