"""A worker-cpu whose home model took a large KV cache makes room for a second model without unloading the first."""

import json
from pathlib import Path

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.manifest.model_manifest import MANIFEST
from infermesh_worker.testing.processes import WorkerProcess, WorkerStubs, connected

MEMORY_BYTES = 1800 << 20


def copy_of(model: Path, folder: Path, name: str) -> None:
    """A model folder with links to the model's files and another name."""
    folder.mkdir()
    for entry in model.iterdir():
        if entry.name != MANIFEST:
            (folder / entry.name).symlink_to(entry)
    manifest = json.loads((model / MANIFEST).read_text())
    (folder / MANIFEST).write_text(json.dumps(manifest | {"name": name}))


async def tokens(stubs: WorkerStubs, model: str) -> list[int]:
    sampling = pb.SamplingParams(temperature=0)
    stop = pb.StopConditions(max_tokens=6, ignore_eos=True)
    request = pb.GenerateRequest(model=model, text="The sea in winter", sampling=sampling, stop=stop)
    events = [event async for event in stubs.inference.Generate(request, timeout=120)]
    return [token for event in events for token in event.delta.token_ids]


async def test_the_home_model_keeps_one_context_and_the_newcomer_fits(default_model: Path, tmp_path: Path) -> None:
    for name in ("first", "second"):
        copy_of(default_model, tmp_path / name, name)
    worker = await WorkerProcess.start(
        "infermesh_worker_cpu", models=tmp_path, model="first", memory_bytes=MEMORY_BYTES, threads=1, numerics="exact"
    )
    try:
        async with connected(worker) as stubs:
            report = await stubs.report_when(
                lambda report: (
                    report.models[0].state == pb.ENDPOINT_STATE_READY
                    and report.models[0].kv_cache_bytes < MEMORY_BYTES / 2
                )
            )
            home = report.models[0]
            assert (home.pinned, home.home) == (True, True)
            said = await tokens(stubs, "first")
            before = home.kv_cache_bytes
            assert await stubs.load("second") == []
            assert await tokens(stubs, "second") == said
            assert await tokens(stubs, "first") == said
            report = await stubs.report()
            assert {model.name for model in report.models} == {"first", "second"}
            assert sum(model.memory_bytes for model in report.models) <= MEMORY_BYTES
            home = next(model for model in report.models if model.name == "first")
            assert home.kv_cache_bytes <= before
    finally:
        assert await worker.stop() == 0
