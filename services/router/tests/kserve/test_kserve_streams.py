"""ModelStreamInfer: each request is answered as it comes, a failure too, and each message counts for the memory."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator

import numpy as np

from infermesh.open_inference.v2 import open_inference_pb2 as oip
from infermesh_router.testing.router import running_router
from infermesh_router.testing.tensors import HoldingWorker, TensorWorker, raw_request, stub

STREAM = "/inference.GRPCInferenceService/ModelStreamInfer"
X = np.arange(4, dtype=np.float32).reshape(2, 2)


async def test_a_stream_answers_each_request_and_goes_on_after_an_error() -> None:

    async def requests() -> AsyncIterator[oip.ModelInferRequest]:
        for index in range(3):
            request = raw_request(x=X + index)
            request.id = str(index)
            if index == 1:
                request.raw_input_contents[0] = b"short"
            yield request

    worker = TensorWorker()
    await worker.start()
    try:
        async with running_router(worker.address) as router:
            answers = [answer async for answer in stub(router).ModelStreamInfer(requests())]
    finally:
        await worker.stop()
    assert [answer.infer_response.id for answer in answers] == ["0", "1", "2"]
    assert "needs 16 bytes; it has 5" in answers[1].error_message
    assert answers[2].infer_response.raw_output_contents[0] == (X + 2).tobytes()


async def test_the_messages_of_streams_count_for_the_memory_of_requests() -> None:
    worker = HoldingWorker()
    await worker.start()
    large = raw_request(x=np.zeros((1 << 18,), np.float32))
    large.id = "large"
    try:
        async with running_router(worker.address, body_memory_bytes=4 << 20, client_body_memory_share=1.0) as router:
            held = stub(router).ModelStreamInfer(iter([large, large]))
            await worker.arrived.wait()
            refused = [answer async for answer in stub(router).ModelStreamInfer(iter([large]))]
            assert refused[0].infer_response.id == "large"
            assert "already take" in refused[0].error_message
            worker.may.set()
            assert [answer.error_message async for answer in held] == ["", ""]
    finally:
        await worker.stop()


async def test_an_idle_stream_holds_no_request() -> None:
    worker = TensorWorker()
    await worker.start()
    size_bytes = 3 << 20
    message = raw_request(x=np.zeros(size_bytes // 4, np.float32)).SerializeToString()
    try:
        async with running_router(worker.address) as router:
            stream = router.channel.stream_stream(STREAM)()
            await stream.write(raw_request(x=X).SerializeToString())
            await stream.read()
            tracemalloc.start()
            await stream.write(message)
            assert len(await stream.read()) > size_bytes
            worker.inferred.clear()
            assert tracemalloc.get_traced_memory()[1] > size_bytes  # it was seen
            async with asyncio.timeout(10):  # the router may not yet know that its answer was written
                while tracemalloc.get_traced_memory()[0] > size_bytes / 2:
                    await stub(router).ServerLive(oip.ServerLiveRequest())
            await stream.done_writing()
    finally:
        tracemalloc.stop()
        await worker.stop()


async def test_a_stream_begins_before_its_first_answer() -> None:
    worker = HoldingWorker()
    await worker.start()
    try:
        async with running_router(worker.address) as router:
            stream = router.channel.stream_stream(STREAM)()
            await stream.write(raw_request(x=X).SerializeToString())
            await worker.arrived.wait()
            async with asyncio.timeout(10):
                assert "x-request-id" in dict(await stream.initial_metadata())
            worker.may.set()
            assert await stream.read()
            await stream.done_writing()
    finally:
        await worker.stop()
