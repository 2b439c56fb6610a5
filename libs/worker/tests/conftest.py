"""A simulated worker for the tests of one module, and what they ask of it."""

from collections.abc import AsyncIterator

import grpc
import pytest_asyncio

from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from infermesh_worker.testing.processes import WorkerProcess, simulated_worker_process


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker() -> AsyncIterator[WorkerProcess]:
    async with simulated_worker_process(sim_itl_s=0.001, sim_slope_s=0, max_sequences=8, sim_kv_tokens=4096) as process:
        await process.ready()
        yield process


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stub(worker: WorkerProcess) -> AsyncIterator[InferenceServiceStub]:
    async with grpc.aio.insecure_channel(await worker.address()) as channel:
        yield InferenceServiceStub(channel)
