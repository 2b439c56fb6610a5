"""A load that fails leaves nothing behind, and a catalog that changes under a running worker."""

import json
import shutil

import pytest

from infermesh_runtime.errors import FailedPrecondition, ModelNotFound, Unavailable
from infermesh_worker.device.worker_device import WorkerDevice
from infermesh_worker.engine_client.engine_client import EngineClient
from infermesh_worker.engine_client.engine_status import ServingState
from infermesh_worker.engine_client.metrics import RequestMeter
from infermesh_worker.engine_process.frames import StartCommand
from infermesh_worker.hosting.hosted_models import ModelLimits
from infermesh_worker.hosting.queue_bound import QueueBound
from infermesh_worker.models.catalog import CatalogEntry, FolderCatalog, OpenedModel
from infermesh_worker.models.footprint import Footprint
from infermesh_worker.testing.simulated import SimulatedSettings, build_options, build_tokenizer, opened_model, probe
from infermesh_worker.worker import Worker

SETTINGS = SimulatedSettings(sim_memory_bytes=100, sim_models="good:60")

BUILD = """
from infermesh_runtime.errors import FailedPrecondition
from infermesh_worker import simulated

def build(options):
    if options["name"] == "refused":
        raise FailedPrecondition("this folder has no graph", reason="MODEL_NOT_CONVERTED")
    if options["name"] == "broken":
        raise OSError("no weights here")
    return simulated.build(options)
"""


class Catalog:
    """Three models, of which one can be loaded."""

    def entries(self):
        return {
            name: CatalogEntry(name=name, size_bytes=1, context_length=8192, footprint=Footprint(base_bytes=60))
            for name in ("good", "refused", "broken")
        }

    def open(self, name):
        return OpenedModel(opened_model(SETTINGS, name), {**build_options(SETTINGS, name), "name": name})


def device(ask=None):
    async def ask_probe():
        return probe(build_options(SETTINGS))

    return WorkerDevice(ask or ask_probe)


@pytest.fixture
async def worker(tmp_path, monkeypatch):
    (tmp_path / "picky_model.py").write_text(BUILD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def make_client(opened, _):
        start = StartCommand(options=dict(opened.options), max_sequences=4, max_batched_tokens=64, prefix_caching=True)
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
async def test_failed_load_says_the_engines_own_reason_and_leaves_nothing(worker, name, error, reason, words):
    with pytest.raises(error, match=words) as caught:
        await worker.models.load(name)
    assert caught.value.reason == reason
    status = worker.status.value
    assert (status.models, status.device.memory_free_bytes, status.state) == ((), 100, ServingState.READY)
    assert await worker.models.load("good") == ()


async def test_a_load_evicts_before_it_fails(worker):
    await worker.models.load("good")
    with pytest.raises(FailedPrecondition):
        await worker.models.load("refused")
    assert worker.status.value.models == ()


async def test_device_that_cannot_be_found_is_a_failed_worker():
    async def ask():
        raise FailedPrecondition("there is no xpu device", reason="DEVICE_NOT_AVAILABLE")

    limits = ModelLimits(bound=QueueBound(max_running=4, max_waiting=4), keep_alive_s=0)
    worker = Worker(Catalog(), lambda *_: None, device(ask), limits, None)
    await worker.start()
    try:
        async for status in worker.status.changes():
            if status.state is ServingState.FAILED:
                break
        assert status.message == "there is no xpu device"
        with pytest.raises(FailedPrecondition, match="no xpu device"):
            await worker.models.load("good")
    finally:
        await worker.stop()


MANIFEST = {
    "schema": 1,
    "source": "here",
    "format": "gguf",
    "context_length": 64,
    "eos_token_ids": [256],
    "bos_token_id": None,
    "size_bytes": 10,
    "created": "2026-01-02T00:00:00Z",
    "files": {},
}


def make_folder(root, name, **changes):
    folder = root / name
    folder.mkdir(parents=True)
    build_tokenizer().save(str(folder / "tokenizer.json"))
    (folder / "infermesh.json").write_text(json.dumps(MANIFEST | {"name": name} | changes))
    return folder


def catalog_of(root):
    return FolderCatalog(
        root, {"threads": 3}, lambda folder: Footprint(base_bytes=5) if folder.manifest.format == "gguf" else None
    )


def test_catalog_follows_the_folders(tmp_path):
    catalog = catalog_of(tmp_path / "models")
    assert catalog.entries() == {}
    make_folder(tmp_path / "models", "a")
    make_folder(tmp_path / "models", "other-format", format="safetensors")
    entries = catalog.entries()
    assert entries == {"a": CatalogEntry(name="a", size_bytes=10, context_length=64, footprint=Footprint(base_bytes=5))}
    shutil.rmtree(tmp_path / "models" / "a")
    assert catalog.entries() == {}
    with pytest.raises(ModelNotFound):
        catalog.open("a")


def test_catalog_takes_a_folder_once_its_files_are_there(tmp_path, caplog):
    files = {"model.gguf": {"size_bytes": 4, "sha256": "0" * 64}}
    folder = make_folder(tmp_path, "a", files=files)
    catalog = catalog_of(tmp_path)
    for _ in range(3):
        assert catalog.entries() == {}
    assert [record.message for record in caplog.records] == ["model left out"]
    (folder / "model.gguf").write_bytes(b"GGUF")
    assert list(catalog.entries()) == ["a"]


def test_opened_model_has_its_folder_among_the_options(tmp_path):
    folder = make_folder(tmp_path, "a")
    opened = catalog_of(tmp_path).open("a")
    assert opened.served.name == "a"
    assert opened.options == {"threads": 3, "folder": str(folder)}
