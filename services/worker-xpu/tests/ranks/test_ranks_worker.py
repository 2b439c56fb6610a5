"""A worker on two ranks: it says what it runs on, and a rank's death is its engine's, with nothing left behind."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import msgspec
import psutil
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from infermesh_runtime.manifest.model_manifest import hash_file, read_manifest, write_manifest
from infermesh_worker.testing.processes import WorkerProcess
from tests.architectures.configs import save_tiny, tiny_config

READY_TIMEOUT_S = 300.0
FOLLOWER = "infermesh_worker_xpu.ranks.follower"
ENGINE = "infermesh_worker.engine_process.process"
SETTINGS: dict[str, Any] = {
    "device": "cpu:0+1",
    "numerics": "exact",
    "kv_cache_bytes": "16MiB",
    "verify": "never",
    "model": "tiny",
}

pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="two ranks need two processors")


@pytest.fixture(scope="module")
def models(default_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tiny model that has the default model's tokenizer and template."""
    root = tmp_path_factory.mktemp("models")
    folder = root / "tiny"
    config = tiny_config("llama")
    config.vocab_size, config.max_position_embeddings = 49152, 8192
    save_tiny(config, folder)
    for path in default_model.iterdir():
        if (path.is_file() and "token" in path.name) or path.suffix == ".jinja":
            (folder / path.name).symlink_to(path)
    files = {}
    for path in folder.iterdir():
        with path.open("rb") as file:
            files[path.name] = hash_file(file)
    write_manifest(folder, msgspec.structs.replace(read_manifest(default_model), name="tiny", files=files))
    return root


@pytest.fixture
async def worker(models: Path) -> AsyncIterator[WorkerProcess]:
    worker = await WorkerProcess.start("infermesh_worker_xpu", models=models, **SETTINGS)
    try:
        await worker.wait_for("ready", READY_TIMEOUT_S)
        yield worker
    finally:
        processes = processes_of(worker)
        assert await worker.stop() == 0
        await gone(*processes)


def processes_of(worker: WorkerProcess) -> list[psutil.Process]:
    return psutil.Process(worker.pid).children(recursive=True)


def named(worker: WorkerProcess, module: str) -> psutil.Process:
    (found,) = (each for each in processes_of(worker) if module in each.cmdline())
    return found


async def gone(*processes: psutil.Process) -> None:
    """Waits until all have ended; kills none."""
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, 30)
    assert not alive


def asked(tokens: int) -> pb.GenerateRequest:
    message = pb.ChatMessage(role="user", content="Name a colour.")
    return pb.GenerateRequest(
        chat=pb.ChatPrompt(messages=[message]),
        sampling=pb.SamplingParams(temperature=0.0),
        stop=pb.StopConditions(max_tokens=tokens, ignore_eos=True),
    )


async def tokens_of(stub: InferenceServiceStub) -> list[int]:
    events = [event async for event in stub.Generate(asked(12), timeout=120)]
    assert events[-1].HasField("finished")
    return [token for event in events for token in event.delta.token_ids]


def holds_store(process: psutil.Process) -> bool:
    """Whether it has the file in memory through which the ranks met, which torch reads on."""
    links = Path(f"/proc/{process.pid}/fd").iterdir()
    return any("memfd:infermesh-ranks" in str(link.readlink()) for link in links if link.is_symlink())


async def lose(worker: WorkerProcess, stub: InferenceServiceStub, module: str) -> None:
    """Kills the process that runs a module during a request, which then fails as both ranks end."""
    victims = [named(worker, FOLLOWER), named(worker, ENGINE)]
    events = aiter(stub.Generate(asked(4000), timeout=120))
    await anext(events)
    os.kill(named(worker, module).pid, signal.SIGKILL)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in events:
            pass
    assert caught.value.code() == grpc.StatusCode.UNAVAILABLE
    await gone(*victims)


async def test_the_death_of_any_rank_is_that_of_the_engine(worker: WorkerProcess) -> None:
    """After the second death the worker is stopped at once, while ranks load: the fixture sees that they end too."""
    async with grpc.aio.insecure_channel(await worker.ready()) as channel:
        stub = InferenceServiceStub(channel)
        report = (await stub.Health(pb.HealthRequest())).report
        assert "processor 0 + processor 1" in report.device.name
        assert report.runtime.endswith(", 2 ranks)")
        assert holds_store(named(worker, ENGINE))
        assert holds_store(named(worker, FOLLOWER))
        before = await tokens_of(stub)
        await lose(worker, stub, FOLLOWER)
        assert await tokens_after_restart(stub) == before
        await lose(worker, stub, ENGINE)


async def tokens_after_restart(stub: InferenceServiceStub) -> list[int]:
    """Answers once the engine is back, which health reports."""
    async for response in stub.WatchHealth(pb.WatchHealthRequest(), timeout=READY_TIMEOUT_S):
        if response.report.state == pb.ENDPOINT_STATE_READY:
            break
    return await tokens_of(stub)
