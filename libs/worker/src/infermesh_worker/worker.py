"""Ties a worker together: its hosted models, whether it takes requests, and its status."""

import asyncio
import logging
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from infermesh_runtime.background.tasks import BackgroundTask, TaskSupervisor
from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.manifest.model_kind import GENERATE, ModelKind
from infermesh_worker.device.worker_device import WorkerDevice
from infermesh_worker.engine_client.engine_status import EngineStatus, ServingState
from infermesh_worker.engine_client.watched import DerivedValue
from infermesh_worker.hosting.hosted_model import HostedModel
from infermesh_worker.hosting.hosted_models import HostedModels, MakeClient
from infermesh_worker.hosting.model_kinds import wrong_kind
from infermesh_worker.hosting.model_loader import ModelLimits, ModelLoader
from infermesh_worker.hosting.worker_status import AvailableModel, ModelStatus, WorkerStatus, overall_state, sum_loads
from infermesh_worker.models.catalog import Catalog
from infermesh_worker.models.opened_model import OpenedModel

RESCAN_S = 1.0
"""How often the model folders are listed, and the progress of loads is reported."""

_log = logging.getLogger(__name__)


class Worker:
    """Hands each request to the model that it names; loads and unloads models; drains and resumes.

    Used from one event loop.
    """

    def __init__(
        self,
        catalog: Catalog,
        make_client: MakeClient,
        device: WorkerDevice,
        limits: ModelLimits,
        home: OpenedModel | None,
        *,
        tasks: TaskSupervisor | None = None,
        kinds: Collection[ModelKind] = (GENERATE,),
    ) -> None:
        """`kinds`: the kinds of model that it can host.

        `home`: the model that is loaded at the start and pinned; None: models are loaded only through `loader`.
        """
        self._device = device
        self._limits = limits
        self._home = home
        self._kinds = kinds
        self._refusal: EngineStatus | None = None
        self._device_problem = ""
        self._requests = 0
        self._import_changes = 0
        self._changed = asyncio.Event()
        self._tasks = tasks or TaskSupervisor()
        self._following: list[BackgroundTask] = []
        self.status = DerivedValue(self._make_status)
        """The worker's status, to be read or followed."""
        self.models = HostedModels(make_client, device, limits.bound, on_change=self.status.touch)
        self.loader = ModelLoader(catalog, self.models, device, limits, on_change=self.status.touch, tasks=self._tasks)
        self._tasks.listen(self.status.touch)

    async def start(self) -> None:
        """Starts the home model's engine process. `status` tells when requests are taken."""
        await self.loader.rescan()
        if self._home is not None:
            await self.loader.start_home(self._home)
        else:
            self._following.append(self._tasks.start("device", self._find_device))
        self._following.append(self._tasks.start("catalog", self._follow_catalog))

    def find(self, name: str, kind: ModelKind | None = None) -> HostedModel:
        """The hosted model that a request names; without a name, the only one of the kind that its call is for.

        Raises the errors of `resolve_model_name`.
        """
        return self.models.find(name, self.loader.entries, kind)

    @contextmanager
    def use(self, name: str, kind: ModelKind = GENERATE) -> Iterator[HostedModel]:
        """The model that a request names, kept loaded while the block runs. `kind`: what the call is for.

        Raises Unavailable while the worker drains, the errors of `find`, and that of `wrong_kind`.
        """
        if self._refusal is not None:
            raise self._refusal.refusal()
        hosted = self.find(name, kind)
        if hosted.opened.kind != kind:
            raise wrong_kind(hosted.opened, kind, self._kinds)
        self._requests += 1
        try:
            with hosted.used():
                yield hosted
        finally:
            self._requests -= 1
            if not self._requests and self._refusal is not None:
                self._wake()

    def note_import(self) -> None:
        """Counts a change of the imports into the models folder, and reports it."""
        self._import_changes += 1
        self.status.touch()

    async def drain_requests(self) -> None:
        """Refuses new requests until `resume`; returns when no request runs.

        Raises FailedPrecondition (RESUMED) when the worker is resumed before that.
        """
        if self._refusal is None:
            self._refuse("an operator asked for a drain")
        while self._requests and self._refusal is not None:
            await self._changed.wait()
        if self._refusal is None:
            raise FailedPrecondition("The worker was resumed before it had drained.", reason="RESUMED")

    def resume(self) -> None:
        """Takes requests again. Raises FailedPrecondition when the worker is stopping."""
        if self.status.closed:
            raise FailedPrecondition("The worker is stopping and cannot be resumed.", reason="WORKER_DRAINING")
        self._refusal = None
        self.status.touch()
        self._wake()

    async def drain(self) -> None:
        """Refuses new requests and loads for good and waits for running requests.

        When this is cancelled, the requests that still run fail.
        """
        self._refuse("shutting down")
        self.loader.close()
        try:
            await self.models.drain()
        finally:
            self.status.close()

    async def stop(self) -> None:
        """Ends every engine process and waits until it is gone."""
        for task in self._following:
            task.stop()
        for task in self._following:
            await task.wait()
        await self.loader.stop()
        await self.models.stop()

    def _refuse(self, why: str) -> None:
        self._refusal = EngineStatus(state=ServingState.DRAINING, message=why)
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
            loading = any(model.is_loading for model in self.models.all)  # its progress has changed
            if self._device.measure() or loading:  # others on this machine have taken or freed memory
                self.status.touch()
            try:
                await self.loader.rescan()
            except OSError as error:
                _log.warning("cannot list the models", extra={"reason": str(error)})

    def _wake(self) -> None:
        # Wakes everyone who waits now; later waiters wait for the next change.
        self._changed.set()
        self._changed.clear()

    def _make_status(self) -> WorkerStatus:
        models = tuple(model.status() for model in self.models.all)
        loads = [model.engine.load for model in models]
        state, message = self._state(models)
        message = "; ".join(filter(None, (message, self._tasks.problem)))
        free_now = self._free_now(models)
        return WorkerStatus(
            state=state,
            message=message,
            device=self._device.reported(self.models.firm_bytes, free_now),
            models=models,
            available=self._available(models),
            load=sum_loads(loads),
            max_running=self._limits.bound.max_running * max(1, len(models)),
            max_waiting=self._limits.bound.max_waiting * max(1, len(models)),
            import_changes=self._import_changes,
        )

    def _free_now(self, models: tuple[ModelStatus, ...]) -> int:
        """Memory that the device has free for further models; 0: not known."""
        available = self._device.available_bytes
        if available is None:
            reported = [model.engine.memory_free_bytes for model in models if model.engine.memory_free_bytes]
            return min(reported, default=0)
        later = sum(holding.unwritten_bytes - holding.shrinkable_bytes for holding in self.models.holdings)
        return max(1, available - later)

    def _state(self, models: tuple[ModelStatus, ...]) -> tuple[ServingState, str]:
        if self._refusal is not None:
            return self._refusal.state, self._refusal.message
        if self._tasks.disabled:
            return ServingState.FAILED, ""
        if self._device_problem and not models:
            return ServingState.FAILED, self._device_problem
        if self._home is None and self._device.facts is None:
            return ServingState.LOADING, "querying the device"
        return overall_state(models)

    def _available(self, models: tuple[ModelStatus, ...]) -> tuple[AvailableModel, ...]:
        budget_bytes, kv_bytes = self._device.budget_bytes, self._limits.kv_cache_bytes
        available = {
            model.opened.name: AvailableModel(
                name=model.opened.name,
                size_bytes=model.opened.size_bytes,
                memory_bytes=model.memory_bytes,
                context_length=model.opened.context_length,
                created=model.opened.created,
                has_chat_template=model.opened.chat_template is not None,
                answer_style=model.opened.known_style,
                generation=model.opened.generation,
                kind=model.opened.kind,
                inputs=model.opened.inputs,
                outputs=model.opened.outputs,
                batching=model.opened.batching,
                voices=model.opened.voices,
                takes_images=model.opened.images is not None,
            )
            for model in models
        }
        found = {name: model.answer_style for name, model in available.items()}
        for entry in self.loader.entries.values():
            available[entry.name] = AvailableModel(
                name=entry.name,
                size_bytes=entry.size_bytes,
                memory_bytes=entry.footprint.needed_bytes(budget_bytes, kv_bytes),
                context_length=entry.context_length,
                created=entry.created,
                has_chat_template=entry.has_chat_template,
                answer_style=entry.answer_style or found.get(entry.name),
                generation=entry.generation,
                kind=entry.kind,
                inputs=entry.inputs,
                outputs=entry.outputs,
                batching=entry.batching,
                voices=entry.voices,
                takes_images=entry.takes_images,
            )
        return tuple(available.values())
