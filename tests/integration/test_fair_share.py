"""Two models at their limits on two workers: clients share each model fairly, and none that could wait is refused.

`FAIR_S=60 pytest tests/integration/test_fair_share.py` runs it with 200 clients for longer.
"""

import asyncio
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

import grpc
import pytest

from infermesh.admin.v1 import admin_pb2
from infermesh.admin.v1.admin_pb2_grpc import EndpointServiceStub
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.testing.router import RunningRouter, running_router
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
SLOWEST = 2.0
"""How many requests of each client a model answers in a second, at least."""


@dataclass(slots=True)
class Served:
    """The clients that were served, by model and in order."""

    names: dict[str, list[str]] = field(default_factory=lambda: {model: [] for model in MODELS})
    _grown: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def add(self, model: str, name: str) -> None:
        async with self._grown:
            self.names[model].append(name)
            self._grown.notify_all()

    async def until_each_model_served(self, counts: Mapping[str, int]) -> None:
        async with self._grown:
            await self._grown.wait_for(lambda: all(len(self.names[model]) >= counts[model] for model in MODELS))


@pytest.fixture
def fair_s() -> float:
    """How long the clients ask, about: FAIR_S, or by default short enough for every test run."""
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


async def keep_asking(router: RunningRouter, model: str, name: str, served: Served) -> None:
    """Sends one request after another, each of 8 tokens."""
    stop = pb.StopConditions(max_tokens=8, ignore_eos=True)
    request = pb.GenerateRequest(model=model, text="Hello", seed=1, stop=stop, client_id=name)
    while True:
        async for _ in router.inference.Generate(request, timeout=60):
            pass
        await served.add(model, name)


async def all_queued(router: RunningRouter, calls: int) -> None:
    """Returns once so many calls wait for each model."""
    async for listed in router.admin.WatchEndpoints(admin_pb2.WatchEndpointsRequest(min_interval_ms=10), timeout=60):
        if {queue.model for queue in listed.queues if queue.waiting >= calls} == set(MODELS):
            return


async def test_clients_share_two_full_models_fairly(router: RunningRouter, fair_s: float) -> None:
    served = Served()
    each = max(2, (200 if fair_s >= 30 else 48) // (len(MODELS) * sum(NAMES.values())))
    wanted = round(7 * fair_s)  # of each client and model; an idle machine answers 8 a second
    async with asyncio.TaskGroup() as group:
        tasks = [
            group.create_task(keep_asking(router, model, name, served))
            for model in MODELS
            for name, share in NAMES.items()
            for _ in range(each * share)
        ]
        await all_queued(router, each * sum(NAMES.values()) - PLACES)
        # those whose turn came before all clients waited
        begin = {model: len(names) + PLACES for model, names in served.names.items()}
        await served.until_each_model_served(begin)
        end = {model: count + wanted * len(NAMES) for model, count in begin.items()}
        began_s = time.process_time()
        async with asyncio.timeout(wanted / SLOWEST):
            await served.until_each_model_served(end)
        print(f"router and clients used {time.process_time() - began_s:.1f} s")
        for task in tasks:
            task.cancel()
    for model in MODELS:
        shares = Counter(served.names[model][begin[model] : end[model]])
        assert all(abs(shares[name] - wanted) <= max(2, 0.1 * wanted) for name in NAMES), (model, shares)
