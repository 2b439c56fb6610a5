"""Makes room for a model by shrinking the KV caches of others, and lets them grow again when memory is free."""

from infermesh_worker.device.worker_device import WorkerDevice
from infermesh_worker.engine_client.engine_status import ServingState
from infermesh_worker.hosting.hosted_model import HostedModel
from infermesh_worker.hosting.hosted_models import HostedModels
from infermesh_worker.hosting.memory_plan import RoomPlan, plan_room, unclaimed_bytes
from infermesh_worker.models.catalog import CatalogEntry
from infermesh_worker.models.footprint import Footprint


class Room:
    """The memory that the hosted models share. Used from one event loop."""

    def __init__(self, models: HostedModels, device: WorkerDevice, *, kv_cache_bytes: int) -> None:
        """`kv_cache_bytes`: size of each model's KV cache; 0: chosen, and changed when memory is needed."""
        self._models = models
        self._device = device
        self._kv_cache_bytes = kv_cache_bytes

    def estimated_bytes(self, entry: CatalogEntry, kv_bytes: int) -> int:
        """Memory that a model will take with a KV cache of this size."""
        return entry.footprint.base_bytes + kv_bytes

    def footprint(self, entry: CatalogEntry | None) -> Footprint | None:
        """How small and how large a model's KV cache may become; None: it keeps its size."""
        return None if entry is None or self._kv_cache_bytes else entry.footprint

    def estimated_home_bytes(self, entry: CatalogEntry | None) -> int:
        """Memory that the model will take that the worker was started with; 0: not known."""
        if entry is None:
            return 0
        budget_bytes = self._device.budget_bytes
        return self.estimated_bytes(entry, entry.footprint.kv_bytes(budget_bytes, self._kv_cache_bytes, budget_bytes))

    def plan(self, entry: CatalogEntry) -> RoomPlan:
        """How the model gets its memory, by what is free at this moment. Raises ResourceExhausted."""
        self._device.measure()
        return plan_room(
            entry.name,
            entry.footprint,
            self._models.holdings,
            budget_bytes=self._device.budget_bytes,
            kv_cache_bytes=self._kv_cache_bytes,
            available_bytes=self._device.available_bytes,
        )

    async def shrink(self, plan: RoomPlan) -> None:
        """Shrinks KV caches as planned; returns when their memory is free."""
        for name, given_up in plan.given_up.items():
            if (hosted := self._models.get(name)) is not None:
                await hosted.limit_kv(hosted.kv_cache_bytes - given_up)

    async def fit(self, hosted: HostedModel) -> None:
        """Once the model is loaded, cuts a KV cache that its runner chose down to its share of the memory."""
        async for status in hosted.client.status.changes():
            if status.state is ServingState.READY:
                best = hosted.best_kv_bytes(self._device.budget_bytes, self._unclaimed_bytes())
                if best < hosted.kv_cache_bytes:
                    await hosted.limit_kv(best)
                return

    def grow(self) -> None:
        """Lets KV caches that have shrunk grow into the free memory, most recently used first."""
        free = self._unclaimed_bytes()
        for hosted in sorted(self._models.all, key=lambda model: model.idle_s):
            best = hosted.best_kv_bytes(self._device.budget_bytes, free)
            if (more := best - hosted.kv_cache_bytes) > 0:
                hosted.limit_kv(best)
                free -= more

    def _unclaimed_bytes(self) -> int:
        self._device.measure()
        return unclaimed_bytes(self._models.holdings, self._device.budget_bytes, self._device.available_bytes)
