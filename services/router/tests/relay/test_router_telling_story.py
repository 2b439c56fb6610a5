"""Receipts name the failure that ended a request, and count what a stopped stream had generated."""

import asyncio

import grpc
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.mesh.v1 import mesh_pb2
from infermesh_router.testing.router import RunningRouter, StartRouter, StartWorker
from infermesh_router.testing.speech import StartSpeech, speak
from infermesh_router.testing.streams import ask, generate, refuse, stop_after_a_token
from infermesh_router.testing.tensors import TensorWorker
from infermesh_runtime.errors import DeadlineExceeded, InvalidArgument, Unavailable

LOST = Unavailable("The engine process ended.", reason="ENGINE_RESTARTING")


async def only_receipt(router: RunningRouter) -> mesh_pb2.Receipt:
    """That of the only request, which was refused: it is kept before the client gets the status."""
    listed: mesh_pb2.ListReceiptsResponse = await router.mesh.ListReceipts(mesh_pb2.ListReceiptsRequest())
    (receipt,) = listed.receipts
    return receipt


def retries(receipt: mesh_pb2.Receipt) -> list[tuple[str, str]]:
    return [(each.endpoint, each.reason) for each in receipt.retries]


async def test_the_failure_that_ends_a_stream_is_told(start_worker: StartWorker, start_router: StartRouter) -> None:
    worker = await start_worker(script=refuse(LOST))
    router = await start_router(worker, attempts=1)
    with pytest.raises(Unavailable):
        await generate(router)
    receipt = await only_receipt(router)
    assert (retries(receipt), receipt.endpoint) == ([(worker.address, "ENGINE_RESTARTING")], "")


async def test_the_failure_that_ends_a_unary_call_is_told(start_router: StartRouter) -> None:
    worker = TensorWorker(failures=1)
    await worker.start()
    try:
        router = await start_router(worker, attempts=1)
        with pytest.raises(grpc.aio.AioRpcError):
            await router.inference.Infer(pb.InferRequest(model="echo"))
        receipt = await only_receipt(router)
        assert (retries(receipt), receipt.endpoint) == ([(worker.address, "STREAM_CUT")], "")
    finally:
        await worker.stop()


async def test_a_request_at_fault_is_no_failure_of_its_endpoint(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    router = await start_router(await start_worker(script=refuse(InvalidArgument("no", reason="BAD_TEXT"))))
    with pytest.raises(InvalidArgument):
        await generate(router)
    receipt = await only_receipt(router)
    assert (retries(receipt), receipt.error) == ([], "BAD_TEXT")


async def test_the_tokens_of_a_stopped_stream_are_counted(start_worker: StartWorker, start_router: StartRouter) -> None:
    worker = await start_worker(script=stop_after_a_token(LOST))
    router = await start_router(worker, max_failovers=0)
    with pytest.raises(Unavailable):
        await generate(router, ask())
    receipt = await only_receipt(router)
    assert (receipt.endpoint, receipt.prompt_tokens, receipt.completion_tokens) == (worker.address, 3, 1)


async def test_speech_has_no_tokens(start_speech: StartSpeech, start_router: StartRouter) -> None:
    router = await start_router(await start_speech(faults=[(2, LOST)]), max_failovers=0)
    with pytest.raises(Unavailable):
        await speak(router)
    assert (await only_receipt(router)).completion_tokens == 0


async def test_how_long_a_request_waited_in_vain_is_told(start_worker: StartWorker, start_router: StartRouter) -> None:
    router = await start_router(await start_worker(load=pb.Load(max_running=1, running=1)))
    await router.inference.Health(pb.HealthRequest())  # connects: else that takes a part of the first call's time

    async def embed(router: RunningRouter, timeout_s: float) -> None:
        await router.inference.Embed(pb.EmbedRequest(model="m", texts=["a"]), timeout=timeout_s)

    for kept, call in enumerate((generate, embed), 1):
        with pytest.raises((DeadlineExceeded, grpc.aio.AioRpcError)):
            await call(router, timeout_s=1.0)  # type: ignore[operator] # both take these
        receipt = await newest_receipt(router, kept)
        assert receipt.status in ("DEADLINE_EXCEEDED", "CANCELLED")  # as whose timer was first
        assert not receipt.endpoint
        assert 0 < receipt.queued_ms <= receipt.total_ms


async def newest_receipt(router: RunningRouter, kept: int) -> mesh_pb2.Receipt:
    """The last of so many, once it is kept: a client's own timer may end a call before the router's does."""
    async with asyncio.timeout(20):
        while True:
            listed: mesh_pb2.ListReceiptsResponse = await router.mesh.ListReceipts(mesh_pb2.ListReceiptsRequest())
            if len(listed.receipts) == kept:
                return listed.receipts[0]
