"""Streams of requests through Envoy: as long as their client likes, and as slow as the model is."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import pytest
import pytest_asyncio

from infermesh.open_inference.v2 import open_inference_pb2 as oip
from infermesh.open_inference.v2 import open_inference_pb2_grpc as oip_grpc
from infermesh_envoy import Address, EnvoyOptions, EnvoyProcess
from infermesh_router.testing.router import running_router
from infermesh_router.testing.tensors import HoldingWorker, raw_request

pytestmark = pytest.mark.asyncio(loop_scope="module")
MIB = 1 << 20
CLIENT_LIMIT = 4 * MIB
BODY_TIMEOUT_S = 1.0
WAIT_S = 20
HALF_MIB = np.zeros(MIB // 8, np.float32)


@dataclass(frozen=True)
class Streaming:
    """A mesh of real Envoy, router and a worker that answers once it may."""

    worker: HoldingWorker
    channel: grpc.aio.Channel

    @property
    def stub(self) -> oip_grpc.GRPCInferenceServiceStub:
        """The protocol's service."""
        return oip_grpc.GRPCInferenceServiceStub(self.channel)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Streaming]:
    folder: Path = tmp_path_factory.mktemp("streams")
    free = Address("127.0.0.1", 0)
    worker = HoldingWorker()
    await worker.start()
    async with running_router(worker.address) as router:
        options = EnvoyOptions(
            http=free,
            grpc=free,
            router=Address.parse(router.address),
            access_log=str(folder / "access.log"),
            max_arriving_bytes=2 * CLIENT_LIMIT,
            max_client_arriving_bytes=CLIENT_LIMIT,
            body_timeout_s=BODY_TIMEOUT_S,
        )
        envoy = EnvoyProcess(options, folder)
        await asyncio.to_thread(envoy.start)
        try:
            async with grpc.aio.insecure_channel(envoy.grpc) as channel:
                yield Streaming(worker, channel)
            assert "[lua]" not in envoy.log()
        finally:
            await asyncio.to_thread(envoy.stop)
            await worker.stop()


async def answered(stream: grpc.aio.StreamStreamCall) -> str:
    """What the next answer says is wrong."""
    answer: oip.ModelStreamInferResponse = await stream.read()
    return answer.error_message


async def test_a_stream_may_carry_more_than_a_body(mesh: Streaming) -> None:
    mesh.worker.may.set()
    stream = mesh.stub.ModelStreamInfer(timeout=WAIT_S)
    for _ in range(3 * CLIENT_LIMIT // HALF_MIB.nbytes):
        await stream.write(raw_request(x=HALF_MIB))
        assert await answered(stream) == ""
    other = await mesh.stub.ModelInfer(raw_request(x=HALF_MIB, y=HALF_MIB), timeout=WAIT_S)
    assert len(other.raw_output_contents) == 2
    await stream.done_writing()
    assert await stream.code() is grpc.StatusCode.OK


async def test_the_first_answer_may_take_longer_than_a_body_may(mesh: Streaming) -> None:
    mesh.worker.may.clear()
    mesh.worker.arrived.clear()
    stream = mesh.stub.ModelStreamInfer(timeout=WAIT_S)
    await stream.write(raw_request(x=HALF_MIB))
    await mesh.worker.arrived.wait()
    later = mesh.channel.stream_unary("/inference.GRPCInferenceService/ModelInfer")(timeout=WAIT_S)
    await later.write(raw_request(x=HALF_MIB).SerializeToString())  # whose end does not come
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await later
    assert ended.value.details() == "The request did not arrive in time"
    mesh.worker.may.set()  # by now the stream's time would be over too
    assert await answered(stream) == ""
    await stream.done_writing()
    assert await stream.code() is grpc.StatusCode.OK
