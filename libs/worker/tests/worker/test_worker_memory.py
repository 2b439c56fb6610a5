"""KV caches are sized so that further models fit, and a worker reports the memory that is really reserved."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from infermesh_worker.device.device_facts import DeviceFacts
from infermesh_worker.device.worker_device import WorkerDevice
from infermesh_worker.engine_client.engine_client import EngineClient
from infermesh_worker.engine_client.request_meter import RequestMeter
from infermesh_worker.engine_process.frames import StartCommand
from infermesh_worker.hosting.model_loader import ModelLimits
from infermesh_worker.hosting.queue_bound import QueueBound
from infermesh_worker.models.catalog import CatalogEntry
from infermesh_worker.models.footprint import Footprint
from infermesh_worker.models.opened_model import OpenedModel
from infermesh_worker.testing.simulated import SimulatedSettings, build_options, opened_model
from infermesh_worker.testing.simulated_probe import probe
from infermesh_worker.worker import Worker

SETTINGS = SimulatedSettings.model_validate({"sim_memory_bytes": 400})
BASE, NAMES = 10, ("a", "b", "c", "d", "e")


class Catalog:
    """Small models that would like a KV cache far larger than the device."""

    def entries(self) -> dict[str, CatalogEntry]:
        footprint = Footprint(base_bytes=BASE, kv_wanted_bytes=5000, kv_least_bytes=5)
        return {
            name: CatalogEntry(
                name=name,
                size_bytes=BASE,
                context_length=8192,
                footprint=footprint,
                created=datetime.now(UTC),
                has_chat_template=True,
            )
            for name in NAMES
        }

    def open(self, name: str) -> OpenedModel:
        return opened_model(SETTINGS, name)


def make_client(opened: OpenedModel, kv_bytes: int) -> EngineClient:
    options = build_options(SETTINGS, opened.name)
    options["runner"]["memory_bytes"] = BASE + kv_bytes
    start = StartCommand(options=options, max_sequences=4, max_batched_tokens=64, prefix_caching=True)
    return EngineClient("infermesh_worker.testing.simulated_engine:build", start, RequestMeter())


@pytest.fixture
async def worker() -> AsyncIterator[Worker]:
    async def ask() -> DeviceFacts:
        return probe(build_options(SETTINGS))

    limits = ModelLimits(bound=QueueBound(max_running=4, max_waiting=4), keep_alive_s=60)
    worker = Worker(Catalog(), make_client, WorkerDevice(ask), limits, None)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


async def test_small_models_leave_each_other_room(worker: Worker) -> None:
    for name in NAMES:
        assert await worker.loader.load(name) == ()
    status = worker.status.value
    assert [(model.kv_bytes, model.memory_bytes) for model in worker.models.all] == [
        (kv, BASE + kv) for kv in (100, 100, 85, 37, 14)
    ]
    assert [model.keep_alive_s for model in status.models] == [60] * len(NAMES)
    assert status.device is not None
    assert status.device.memory_free_bytes == 400 - sum(model.memory_bytes for model in status.models)
    assert {model.memory_bytes for model in status.available} == {BASE + 5}
