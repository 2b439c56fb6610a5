"""A load that fails leaves nothing behind, and a worker whose device cannot be found says so."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NoReturn

import pytest

from infermesh_runtime.background.tasks import TaskSupervisor
from infermesh_runtime.errors import FailedPrecondition, InfermeshError, Unavailable
from infermesh_worker.device.device_facts import DeviceFacts
from infermesh_worker.device.worker_device import Probe, WorkerDevice
from infermesh_worker.engine_client.engine_client import EngineClient
from infermesh_worker.engine_client.engine_status import ServingState
from infermesh_worker.engine_client.request_meter import RequestMeter
from infermesh_worker.engine_process.frames import StartCommand
from infermesh_worker.hosting.hosted_model import HostedModel
from infermesh_worker.hosting.hosted_models import HostedModels
from infermesh_worker.hosting.model_loader import ModelLimits
from infermesh_worker.hosting.queue_bound import QueueBound
from infermesh_worker.models.catalog import CatalogEntry
from infermesh_worker.models.footprint import Footprint
from infermesh_worker.models.opened_model import OpenedModel
from infermesh_worker.testing.simulated import SimulatedSettings, build_options, opened_model
from infermesh_worker.testing.simulated_probe import probe
from infermesh_worker.worker import Worker

SETTINGS = SimulatedSettings.model_validate({"sim_memory_bytes": 100, "sim_models": "good:60"})

BUILD = """
from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker.testing import simulated_engine

def build(options):
    if options["name"] == "refused":
        raise FailedPrecondition("this folder has no graph", reason="MODEL_NOT_CONVERTED")
    if options["name"] == "broken":
        raise OSError("no weights here")
    return simulated_engine.build(options)
"""


class Catalog:
    """Three models, of which one can be loaded."""

    def entries(self) -> dict[str, CatalogEntry]:
        return {
            name: CatalogEntry(
                name=name,
                size_bytes=1,
                context_length=8192,
                footprint=Footprint(base_bytes=60),
                created=datetime(2026, 1, 2, tzinfo=UTC),
                has_chat_template=True,
            )
            for name in ("good", "refused", "broken")
        }

    def open(self, name: str) -> OpenedModel:
        opened = opened_model(SETTINGS, name)
        return replace(opened, build_options={**opened.build_options, "name": name})


def device(ask: Probe | None = None) -> WorkerDevice:
    async def ask_probe() -> DeviceFacts:
        return probe(build_options(SETTINGS))

    return WorkerDevice(ask or ask_probe)


@pytest.fixture
async def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Worker]:
    (tmp_path / "picky_model.py").write_text(BUILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make_client(opened: OpenedModel, _: int) -> EngineClient:
        start = StartCommand(
            options=dict(opened.build_options), max_sequences=4, max_batched_tokens=64, prefix_caching=True
        )
        return EngineClient("picky_model:build", start, RequestMeter())

    limits = ModelLimits(bound=QueueBound(max_running=4, max_waiting=4), keep_alive_s=0)
    worker = Worker(Catalog(), make_client, device(), limits, None)
    await worker.start()
    try:
        yield worker
    finally:
        await worker.stop()


@pytest.mark.parametrize(
    ("name", "error", "reason", "words"),
    [
        ("refused", FailedPrecondition, "MODEL_NOT_CONVERTED", "this folder has no graph"),
        ("broken", Unavailable, "MODEL_LOAD_FAILED", "OSError: no weights here"),
    ],
)
async def test_failed_load_says_the_engines_own_reason_and_leaves_nothing(
    worker: Worker, name: str, error: type[InfermeshError], reason: str, words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        await worker.loader.load(name)
    assert caught.value.reason == reason
    status = worker.status.value
    assert status.device is not None
    assert (status.models, status.device.memory_free_bytes, status.state) == ((), 100, ServingState.READY)
    assert await worker.loader.load("good") == ()


async def test_failed_load_brings_back_what_was_unloaded_for_it(worker: Worker) -> None:
    await worker.loader.load("good", keep_alive_s=900)
    with worker.use("good"):
        pass
    before = worker.status.value.models[0]
    with pytest.raises(FailedPrecondition, match="this folder has no graph") as caught:
        await worker.loader.load("refused")
    assert "not_restored" not in caught.value.metadata
    (after,) = worker.status.value.models
    assert (after.opened.name, after.engine.state) == ("good", ServingState.READY)
    assert (after.last_used_at, after.pinned) == (before.last_used_at, False)
    restored = worker.models.get("good")
    assert restored is not None
    assert restored.retention.keep_alive_s == 900


async def test_a_bug_of_ours_costs_no_other_model_its_place(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    await worker.loader.load("good")
    add = HostedModels.add

    async def fail(self: HostedModels, opened: OpenedModel, *options: Any, **more: Any) -> HostedModel:
        if opened.name == "broken":
            raise KeyError(opened.name)
        return await add(self, opened, *options, **more)

    monkeypatch.setattr(HostedModels, "add", fail)
    with pytest.raises(KeyError):
        await worker.loader.load("broken")
    assert [model.opened.name for model in worker.status.value.models] == ["good"]


async def test_failed_load_says_which_models_it_could_not_bring_back(worker: Worker, tmp_path: Path) -> None:
    await worker.loader.load("good")
    build = (tmp_path / "picky_model.py").read_text()
    (tmp_path / "picky_model.py").write_text(build.replace('== "broken"', 'in ("broken", "good")'))
    with pytest.raises(
        FailedPrecondition, match=r"no graph .*could not be loaded again: 'good' \(.*no weights"
    ) as caught:
        await worker.loader.load("refused")
    assert (caught.value.reason, caught.value.metadata["not_restored"]) == ("MODEL_NOT_CONVERTED", "good")
    assert worker.status.value.models == ()


async def test_model_that_cannot_be_opened_costs_no_other_its_place(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    await worker.loader.load("good")
    loaded = worker.models.get("good")

    def refuse(_catalog: Catalog, name: str) -> OpenedModel:
        raise FailedPrecondition(f"{name} has no tokenizer")

    monkeypatch.setattr(Catalog, "open", refuse)
    with pytest.raises(FailedPrecondition, match="no tokenizer"):
        await worker.loader.load("refused")
    assert worker.models.get("good") is loaded


async def test_device_that_cannot_be_found_is_a_failed_worker() -> None:
    async def ask() -> DeviceFacts:
        raise FailedPrecondition("there is no xpu device", reason="DEVICE_NOT_AVAILABLE")

    def unused(opened: OpenedModel, kv_cache_bytes: int) -> NoReturn:
        raise AssertionError("nothing is loaded without a device")

    limits = ModelLimits(bound=QueueBound(max_running=4, max_waiting=4), keep_alive_s=0)
    worker = Worker(Catalog(), unused, device(ask), limits, None)
    await worker.start()
    try:
        failed = (status async for status in worker.status.changes() if status.state is ServingState.FAILED)
        status = await anext(failed)
        assert status.message == "there is no xpu device"
        with pytest.raises(FailedPrecondition, match="no xpu device"):
            await worker.loader.load("good")
    finally:
        await worker.stop()


async def test_a_load_is_a_supervised_task_and_stopping_the_worker_ends_it() -> None:
    asked, tasks = asyncio.Event(), TaskSupervisor()

    async def ask() -> DeviceFacts:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError("nobody answers")

    def unused(opened: OpenedModel, kv_cache_bytes: int) -> NoReturn:
        raise AssertionError("nothing is loaded without a device")

    limits = ModelLimits(bound=QueueBound(max_running=4, max_waiting=4), keep_alive_s=0)
    worker = Worker(Catalog(), unused, device(ask), limits, None, tasks=tasks)
    await worker.start()
    loading = asyncio.create_task(worker.loader.load("good"))
    await asked.wait()
    await asyncio.sleep(0)
    assert "load good" in [task.name for task in tasks.running]
    await worker.stop()
    with pytest.raises(asyncio.CancelledError):
        await loading
    assert tasks.running == []
