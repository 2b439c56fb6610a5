"""Fixtures for the servers that the contract is checked against: a worker, and the same worker behind a router."""

import contextlib
import signal
from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1.inference_pb2_grpc import InferenceServiceStub
from infermesh_runtime.rpc.options import CHANNEL_OPTIONS
from infermesh_worker.testing.processes import WorkerProcess, simulated_worker
from tests.contract.target import CONTEXT_TOKENS, MODEL, Target


@contextlib.asynccontextmanager
async def router(worker_address: str) -> AsyncIterator[str]:
    """Starts a router in front of one worker; yields its address once it serves requests."""
    process = await WorkerProcess.start("infermesh_router", workers=worker_address)
    try:
        address = await process.address()
        async with grpc.aio.insecure_channel(address) as channel:
            async for health in InferenceServiceStub(channel).WatchHealth(pb.WatchHealthRequest()):
                if health.report.state == pb.ENDPOINT_STATE_READY:
                    break
        yield address
    finally:
        assert await process.stop(signal.SIGTERM) == 0


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def worker_address() -> AsyncIterator[str]:
    settings = {"model": MODEL, "sim_context_length": CONTEXT_TOKENS, "sim_itl_s": 0.002, "sim_slope_s": 0}
    async with simulated_worker(**settings) as address:
        yield address


@pytest_asyncio.fixture(scope="session", loop_scope="session", params=["worker", "router"])
async def target(request: pytest.FixtureRequest, worker_address: str) -> AsyncIterator[Target]:
    async with contextlib.AsyncExitStack() as stack:
        behind = request.param == "router"
        address = await stack.enter_async_context(router(worker_address)) if behind else worker_address
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS))
        yield Target(request.param, channel, worker_address)
