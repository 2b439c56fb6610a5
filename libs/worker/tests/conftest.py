"""A simulated worker shared by the tests of one module, and a stub for it."""

from collections.abc import AsyncIterator

import pytest_asyncio

from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from infermesh_worker.testing.processes import WorkerProcess, connected, simulated_worker_process


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def worker() -> AsyncIterator[WorkerProcess]:
    async with simulated_worker_process(sim_itl_s=0.001, sim_slope_s=0, max_sequences=8, sim_kv_tokens=4096) as process:
        await process.ready()
        yield process


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stub(worker: WorkerProcess) -> AsyncIterator[InferenceServiceStub]:
    async with connected(worker) as stubs:
        yield stubs.inference
