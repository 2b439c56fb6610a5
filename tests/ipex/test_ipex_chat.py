"""A worker process with IPEX reports it in Health and answers a chat; exact numerics run without it.

Runs in a venv of its own (`make test-ipex`).
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import grpc
import pytest
import torch

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from infermesh_worker.testing.processes import WorkerProcess
from infermesh_worker_xpu.loading import ipex

READY_TIMEOUT_S = 300.0

pytestmark = pytest.mark.skipif(
    ipex.why_unusable(torch.device("cpu")) != "", reason=ipex.why_unusable(torch.device("cpu"))
)


@asynccontextmanager
async def worker(folder: Path, **settings: object) -> AsyncIterator[InferenceServiceStub]:
    process = await WorkerProcess.start(
        "infermesh_worker_xpu",
        models=folder.parent,
        model=folder.name,
        device="cpu",
        kv_cache_bytes="256MiB",
        threads=2,
        **settings,
    )
    try:
        await process.wait_for("ready", READY_TIMEOUT_S)
        async with grpc.aio.insecure_channel(await process.ready()) as channel:
            yield InferenceServiceStub(channel)  # type: ignore[no-untyped-call] # generated
    finally:
        assert await process.stop() == 0


async def chat(stub: InferenceServiceStub) -> str:
    message = pb.ChatMessage(role="user", content="Count from one to five.")
    request = pb.GenerateRequest(
        chat=pb.ChatPrompt(messages=[message]),
        sampling=pb.SamplingParams(temperature=0.0),
        stop=pb.StopConditions(max_tokens=24),
    )
    events = [event async for event in stub.Generate(request)]
    assert events[0].HasField("started")
    assert events[-1].HasField("finished")
    return "".join(event.delta.text for event in events)


@pytest.mark.parametrize("dtype", ["bf16", "fp32"])
async def test_a_worker_with_ipex_answers_and_says_so(default_model: Path, dtype: str) -> None:
    async with worker(default_model, dtype=dtype) as stub:
        runtime = (await stub.Health(pb.HealthRequest())).report.runtime
        assert "ipex 2.8" in runtime
        assert "torch 2.8" in runtime
        assert len((await chat(stub)).split()) > 3


async def test_exact_numerics_are_torch_s_alone(default_model: Path) -> None:
    async with worker(default_model, numerics="exact") as stub:
        runtime = (await stub.Health(pb.HealthRequest())).report.runtime
        assert "torch 2.8" in runtime
        assert "ipex" not in runtime
        assert await chat(stub)
