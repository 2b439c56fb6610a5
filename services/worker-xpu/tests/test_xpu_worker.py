"""A real worker process answers over gRPC, on torch."""

from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from infermesh_worker.testing.processes import WorkerProcess

READY_TIMEOUT_S = 300.0


@pytest.fixture
async def stub(default_model: Path) -> AsyncIterator[InferenceServiceStub]:
    worker = await WorkerProcess.start(
        "infermesh_worker_xpu",
        models=default_model.parent,
        model=default_model.name,
        dtype="fp32",
        threads=1,
        kv_cache_bytes="256MiB",
    )
    try:
        await worker.wait_for("ready", READY_TIMEOUT_S)
        async with grpc.aio.insecure_channel(await worker.ready()) as channel:
            yield InferenceServiceStub(channel)
    finally:
        assert await worker.stop() == 0


def chat() -> pb.GenerateRequest:
    message = pb.ChatMessage(role="user", content="Name a colour.")
    return pb.GenerateRequest(
        chat=pb.ChatPrompt(messages=[message]),
        sampling=pb.SamplingParams(temperature=0.0),
        stop=pb.StopConditions(max_tokens=16),
    )


async def test_it_answers_and_says_what_it_is(stub: InferenceServiceStub) -> None:
    health = (await stub.Health(pb.HealthRequest())).report
    assert health.state == pb.ENDPOINT_STATE_READY
    assert health.runtime.startswith("torch ")
    assert 0 < health.device.memory_free_bytes < health.device.memory_total_bytes
    texts = []
    for _ in range(2):
        events = [event async for event in stub.Generate(chat(), timeout=120)]
        assert events[0].HasField("started")
        texts.append("".join(event.delta.text for event in events))
        assert events[-1].HasField("finished")
    assert texts[0] == texts[1] != ""
