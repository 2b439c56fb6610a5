"""A loaded model's KV cache shrinks for a newcomer before any model is unloaded, and grows again afterwards."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial

import pytest
import pytest_asyncio

from infermesh_engine.runners.device_kind import DeviceKind
from infermesh_runtime.errors import ResourceExhausted, Unavailable
from infermesh_worker.device.device_facts import DeviceFacts
from infermesh_worker.device.worker_device import WorkerDevice
from infermesh_worker.engine_client.engine_client import EngineClient
from infermesh_worker.engine_client.engine_status import ServingState
from infermesh_worker.engine_client.request_meter import RequestMeter
from infermesh_worker.engine_process.frames import StartCommand
from infermesh_worker.hosting.hosted_model import HostedModel
from infermesh_worker.hosting.model_loader import ModelLimits
from infermesh_worker.hosting.queue_bound import QueueBound
from infermesh_worker.hosting.room import Room
from infermesh_worker.hosting.worker_status import WorkerStatus
from infermesh_worker.models.catalog import CatalogEntry
from infermesh_worker.models.footprint import Footprint
from infermesh_worker.models.opened_model import OpenedModel
from infermesh_worker.testing.simulated import SimulatedSettings, build_options, opened_model
from infermesh_worker.testing.simulated_probe import probe
from infermesh_worker.worker import Worker

KV_BLOCK, LEAST, BASE, TOTAL, HOME_KV = 256, 1024, 2000, 40_000, 20_480
WHOLE = TOTAL // 4 // KV_BLOCK * KV_BLOCK
"""Size of the home model's KV cache while it has its share: at most a quarter of the device."""
SETTINGS = SimulatedSettings.model_validate({"sim_memory_bytes": TOTAL, "sim_context_length": 4 * 32})
"""A KV block of 32 tokens takes 256 bytes, and one context 1024."""


pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass
class Machine:
    """The memory of the machine, of which others take a part."""

    free_bytes: int | None = None

    def available(self, _kind: DeviceKind) -> int | None:
        return self.free_bytes


@dataclass
class Catalog:
    """Models that would like a KV cache of half the device. "broken" cannot be loaded."""

    footprints: dict[str, Footprint] = field(
        default_factory=lambda: {
            name: Footprint(base_bytes=BASE, kv_wanted_bytes=HOME_KV, kv_least_bytes=LEAST)
            for name in ("home", "new", "broken")
        }
    )

    def entries(self) -> dict[str, CatalogEntry]:
        return {
            name: CatalogEntry(
                name=name,
                size_bytes=BASE,
                context_length=SETTINGS.sim_context_length,
                footprint=footprint,
                created=datetime(2026, 1, 2, tzinfo=UTC),
                has_chat_template=True,
            )
            for name, footprint in self.footprints.items()
        }

    def open(self, name: str) -> OpenedModel:
        return opened_model(SETTINGS, name)


def make_client(catalog: Catalog, opened: OpenedModel, kv_bytes: int) -> EngineClient:
    """Runners that shrink; without a size, they take HOME_KV, as a runner does that knows of no other model."""
    options, kv_bytes = build_options(SETTINGS, opened.name), kv_bytes or HOME_KV
    memory_bytes = catalog.footprints[opened.name].base_bytes + kv_bytes
    options["runner"] |= {"memory_bytes": memory_bytes, "num_blocks": kv_bytes // KV_BLOCK, "kv_shrinks": True}
    start = StartCommand(options=options, max_sequences=4, max_batched_tokens=64, prefix_caching=True)
    build = "infermesh_worker.testing.simulated_engine:build" if opened.name != "broken" else "nowhere:build"
    return EngineClient(build, start, RequestMeter())


@pytest.fixture(scope="module")
def machine() -> Machine:
    return Machine(free_bytes=1 << 40)


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return Catalog()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker(catalog: Catalog, machine: Machine) -> AsyncIterator[Worker]:
    """A worker whose home model is loaded, or about to be."""

    async def ask() -> DeviceFacts:
        return probe(build_options(SETTINGS))

    limits = ModelLimits(bound=QueueBound(max_running=4, max_waiting=4), keep_alive_s=60)
    device = WorkerDevice(ask, available=machine.available)
    worker = Worker(catalog, partial(make_client, catalog), device, limits, opened_model(SETTINGS, "home"))
    await worker.start()
    yield worker
    await worker.stop()


def home(worker: Worker) -> HostedModel:
    hosted = worker.models.get("home")
    assert hosted is not None
    return hosted


async def until_kv(worker: Worker, kv_bytes: int) -> WorkerStatus:
    """Waits until the home model's engine process has a KV cache of this size."""
    async with asyncio.timeout(60):
        async for status in worker.status.changes():
            engine = home(worker).client.status.value
            if engine.state is ServingState.READY and engine.kv_cache_bytes == kv_bytes:
                return status
    raise AssertionError("the worker stopped")


async def ask_for(worker: Worker, catalog: Catalog, name: str, base_bytes: int) -> None:
    """Says how large the model will be whose load follows."""
    catalog.footprints[name] = Footprint(base_bytes=base_bytes, kv_wanted_bytes=LEAST, kv_least_bytes=LEAST)
    await worker.loader.rescan()


async def test_a_cache_that_the_runner_chose_is_cut_to_its_share_and_counts_as_what_it_keeps(worker: Worker) -> None:
    status = await until_kv(worker, WHOLE)
    assert status.device is not None
    (model,) = status.models
    assert (model.memory_bytes, model.kv_cache_bytes) == (BASE + LEAST, TOTAL // 4)
    assert status.device.memory_free_bytes == TOTAL - BASE - LEAST


async def test_a_newcomer_gets_the_idle_cache_of_a_pinned_model_which_grows_again_when_it_leaves(
    worker: Worker, catalog: Catalog
) -> None:
    await until_kv(worker, WHOLE)
    await ask_for(worker, catalog, "new", 30_000)
    assert await worker.loader.load("new") == ()
    kept = home(worker)
    assert kept.retention.pinned
    assert kept.kv_cache_bytes == TOTAL - BASE - 30_000 - LEAST
    assert kept.kv_cache_bytes - KV_BLOCK < kept.client.status.value.kv_cache_bytes <= kept.kv_cache_bytes
    await worker.loader.unload("new")
    await until_kv(worker, WHOLE)


async def test_a_failed_load_gives_the_memory_back(worker: Worker, catalog: Catalog) -> None:
    await until_kv(worker, WHOLE)
    await ask_for(worker, catalog, "broken", 34_000)
    with pytest.raises(Unavailable, match="nowhere"):
        await worker.loader.load("broken")
    await until_kv(worker, WHOLE)


async def test_memory_that_another_worker_has_taken_is_not_given_away(
    worker: Worker, catalog: Catalog, machine: Machine
) -> None:
    await until_kv(worker, WHOLE)
    machine.free_bytes = 3_500  # of which the home model's cache may still take LEAST
    await ask_for(worker, catalog, "new", BASE)
    with pytest.raises(ResourceExhausted, match="at most 2476 of") as caught:
        await worker.loader.load("new")
    assert caught.value.reason == "MODEL_DOES_NOT_FIT"
    assert worker.status.value.device is not None
    assert worker.status.value.device.memory_free_bytes == 3_500 - LEAST
    machine.free_bytes = 1 << 40


async def test_a_restarted_engine_process_keeps_to_its_smaller_cache(worker: Worker) -> None:
    await until_kv(worker, WHOLE)
    await home(worker).limit_kv(20 * KV_BLOCK)
    first = home(worker).client.engine_pid
    os.kill(first, signal.SIGKILL)
    async with asyncio.timeout(60):
        async for _ in worker.status.changes():
            if home(worker).client.engine_pid not in (0, first):
                break
    await until_kv(worker, 20 * KV_BLOCK)


async def test_a_size_that_an_operator_set_is_kept(worker: Worker) -> None:
    entry = worker.loader.entries["new"]
    device = WorkerDevice(lambda: asyncio.sleep(0, probe(build_options(SETTINGS))))
    assert Room(worker.models, device, kv_cache_bytes=0).footprint(entry) == entry.footprint
    assert Room(worker.models, device, kv_cache_bytes=HOME_KV).footprint(entry) is None
