"""A worker process takes images over gRPC: its front counts their tokens, its engine process looks at them."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from infermesh_worker.testing.processes import WorkerProcess
from tests.vision_models.families import picture, save

SETTINGS: dict[str, Any] = {"numerics": "exact", "threads": 1, "kv_cache_bytes": "8MiB", "device": "cpu"}


@pytest.fixture
async def stub(tmp_path: Path) -> AsyncIterator[InferenceServiceStub]:
    folder = tmp_path / "smolvlm"
    folder.mkdir()
    save("smolvlm", folder)
    worker = await WorkerProcess.start("infermesh_worker_xpu", models=tmp_path, model="smolvlm", **SETTINGS)
    try:
        await worker.wait_for("ready", 300)
        async with grpc.aio.insecure_channel(await worker.ready()) as channel:
            yield InferenceServiceStub(channel)
    finally:
        assert await worker.stop() == 0


def ask(*parts: str | bytes) -> pb.GenerateRequest:
    made = [pb.ContentPart(text=p) if isinstance(p, str) else pb.ContentPart(image=pb.Image(data=p)) for p in parts]
    return pb.GenerateRequest(
        chat=pb.ChatPrompt(messages=[pb.ChatMessage(role="user", parts=made)]),
        sampling=pb.SamplingParams(temperature=0.0),
        stop=pb.StopConditions(max_tokens=8, ignore_eos=True),
    )


async def answer(stub: InferenceServiceStub, request: pb.GenerateRequest) -> tuple[list[int], pb.Usage]:
    events = [event async for event in stub.Generate(request, timeout=120)]
    return [i for event in events for i in event.delta.token_ids], events[-1].finished.usage


async def test_images_reach_the_model_and_bad_ones_their_sender(stub: InferenceServiceStub) -> None:
    report = (await stub.Health(pb.HealthRequest())).report
    assert [model.takes_images for model in report.available] == [True]
    one, two = picture(1), picture(2)
    seen, usage = await answer(stub, ask("What is ", one, "?"))
    assert usage.prompt_tokens > 5 * 4  # four tokens for each of four tiles and the whole
    assert len(seen) == 8
    again, usage = await answer(stub, ask("What is ", one, "?"))
    assert again == seen
    assert usage.cached_tokens > 0
    assert (await answer(stub, ask("What is ", two, "?")))[0] != seen
    cut_short = one[: len(one) * 3 // 4]  # its header is whole, so that the engine process finds out
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await answer(stub, ask("What is ", one, cut_short, "?"))
    assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "chat.messages[0].parts[2]: the image cannot be read" in (caught.value.details() or "")
    assert (await answer(stub, ask("What is ", one, "?")))[0] == seen
