"""Two models at their limits on two workers: clients share each model fairly, and none that could wait is refused.

`FAIR_S=60 pytest tests/integration/test_fair_share.py` runs it with 200 clients for longer.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import grpc
import pytest

from infermesh.admin.v1 import admin_pb2
from infermesh.admin.v1.admin_pb2_grpc import EndpointServiceStub
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.testing.router import RunningRouter, running_router
from infermesh_runtime.rpc.status import from_rpc_error
from infermesh_worker.testing.processes import simulated_worker

pytestmark = [pytest.mark.alone, pytest.mark.timeout(200)]

MODELS = ("a", "b")
NAMES = {"one": 1, "two": 2, "three": 3}
"""Names of the clients, and how many times as much each asks for as the first."""
WORKER = {
    "model": "none",
    "sim_models": "a:40,b:40",
    "sim_memory_bytes": 100,
    "sim_itl_s": 0.02,
    "max_sequences": 2,
    "max_waiting": 1,
}
PLACES = 8
"""More than the requests of one model that both workers hold together, running and waiting."""


@pytest.fixture
def fair_s() -> float:
    """How long the clients ask: FAIR_S, or by default short enough for every test run."""
    return float(os.environ.get("FAIR_S", "4"))


@pytest.fixture
async def router() -> AsyncIterator[RunningRouter]:
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(simulated_worker(**WORKER)) for _ in range(2)]
        for address in workers:
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address))
            for model in MODELS:
                await EndpointServiceStub(channel).LoadModel(admin_pb2.LoadModelRequest(model=model, pinned=True))
        router = await stack.enter_async_context(running_router(*workers))
        await router.endpoints_when(lambda listed: all(len(e.report.models) == len(MODELS) for e in listed))
        yield router


async def keep_asking(router: RunningRouter, model: str, name: str, served: Counter[tuple[str, str]]) -> None:
    """Sends one request after another, each of 8 tokens."""
    stop = pb.StopConditions(max_tokens=8, ignore_eos=True)
    request = pb.GenerateRequest(model=model, text="Hello", seed=1, stop=stop, client_id=name)
    while True:
        async for _ in router.inference.Generate(request, timeout=60):
            pass
        served[model, name] += 1


async def all_queued(router: RunningRouter, calls: int) -> None:
    """Returns once so many calls wait for each model."""
    async for listed in router.admin.WatchEndpoints(admin_pb2.WatchEndpointsRequest(min_interval_ms=10), timeout=60):
        if {queue.model for queue in listed.queues if queue.waiting >= calls} == set(MODELS):
            return


async def test_clients_share_two_full_models_fairly(router: RunningRouter, fair_s: float) -> None:
    served: Counter[tuple[str, str]] = Counter()
    each = max(2, (200 if fair_s >= 30 else 48) // (len(MODELS) * sum(NAMES.values())))
    tasks = [
        asyncio.create_task(keep_asking(router, model, name, served))
        for model in MODELS
        for name, share in NAMES.items()
        for _ in range(each * share)
    ]
    try:
        await all_queued(router, each * sum(NAMES.values()) - PLACES)
        served.clear()
        began_s = time.process_time()
        done, _ = await asyncio.wait(tasks, timeout=fair_s, return_when=asyncio.FIRST_EXCEPTION)
        print(f"{dict(served)}, router and clients used {time.process_time() - began_s:.1f} s in {fair_s:.0f} s")
        assert not [from_rpc_error(error) for task in done if isinstance(error := task.exception(), grpc.RpcError)]
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for model in MODELS:
        shares = [served[model, name] for name in NAMES]
        mean = sum(shares) / len(shares)
        assert mean > 2 * fair_s, shares
        assert all(abs(share - mean) <= max(2, 0.1 * mean) for share in shares), shares
