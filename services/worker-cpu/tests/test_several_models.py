"""One worker-cpu with the real model under several names: two answer, and loading a third evicts one."""

import json
from pathlib import Path

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.manifest.model_manifest import MANIFEST
from infermesh_worker.testing.processes import WorkerProcess, WorkerStubs, connected

NAMES = ("first", "second", "third")


@pytest.fixture
def models_root(default_model: Path, tmp_path: Path) -> Path:
    """Model folders with links to the real model's files and manifests of their own."""
    manifest = json.loads((default_model / MANIFEST).read_text())
    for name in NAMES:
        folder = tmp_path / name
        folder.mkdir()
        for entry in default_model.iterdir():
            if entry.name != MANIFEST:
                (folder / entry.name).symlink_to(entry)
        (folder / MANIFEST).write_text(json.dumps(manifest | {"name": name}))
    return tmp_path


async def tokens(stubs: WorkerStubs, model: str) -> list[int]:
    sampling = pb.SamplingParams(temperature=0)
    stop = pb.StopConditions(max_tokens=12, ignore_eos=True)
    request = pb.GenerateRequest(model=model, text="The sea in winter", sampling=sampling, stop=stop)
    events = [event async for event in stubs.inference.Generate(request, timeout=120)]
    assert events[0].started.model == model
    return [token for event in events for token in event.delta.token_ids]


async def test_two_copies_answer_and_a_third_evicts_one(models_root: Path) -> None:
    settings = {
        "models": models_root,
        "model": "none",
        "kv_cache_bytes": "64MiB",
        "memory_bytes": "1200MiB",
        "numerics": "exact",
        "threads": 1,
    }
    worker = await WorkerProcess.start("infermesh_worker_cpu", **settings)
    try:
        async with connected(worker) as stubs:
            empty = await stubs.report()
            assert {model.name for model in empty.available} == set(NAMES)
            assert empty.device.memory_total_bytes == 1200 << 20
            assert await stubs.load("first", "second") == []
            assert await tokens(stubs, "second") == await tokens(stubs, "first")
            two = await stubs.report()
            estimate = empty.available[0].memory_bytes
            for model in two.models:
                assert 0.5 * estimate < model.memory_bytes < 1.5 * estimate
            assert await stubs.load("third") == ["second"]
            assert await tokens(stubs, "third") == await tokens(stubs, "first")
            assert {model.name for model in (await stubs.report()).models} == {"first", "third"}
    finally:
        assert await worker.stop() == 0
