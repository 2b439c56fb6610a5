"""A router loads models on demand, unloads idle ones for others, and queues fairly, with real worker processes."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc
import pytest

from infermesh.admin.v1 import admin_pb2, admin_pb2_grpc
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc as pb_grpc
from infermesh_router.testing.router import RunningRouter, running_router
from infermesh_runtime.errors import ModelNotFound, ResourceExhausted
from infermesh_runtime.rpc.status import from_rpc_error
from infermesh_worker.testing.processes import simulated_worker

TOKENS = 8
MEMORY_BYTES = 100
MODELS = "a:40,b:40,c:40,d:70,e:170"


async def generate(router: RunningRouter, model: str, *, tokens: int = TOKENS, **fields: Any) -> pb.Started:
    """Who served a stream, which must be complete. Raises the InfermeshError that its status stands for."""
    stop = pb.StopConditions(max_tokens=tokens, ignore_eos=True)
    request = pb.GenerateRequest(model=model, text="Hello", seed=1, stop=stop, **fields)
    try:
        events = [event async for event in pb_grpc.InferenceServiceStub(router.channel).Generate(request, timeout=60)]
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    assert sum(len(event.delta.token_ids) for event in events) == tokens
    started: pb.Started = events[0].started
    return started


@asynccontextmanager
async def mesh(*devices: str, **settings: object) -> AsyncIterator[RunningRouter]:
    """A router in front of one worker for each device. Each can load MODELS into MEMORY_BYTES."""
    options = {"model": "none", "sim_models": MODELS, "sim_memory_bytes": MEMORY_BYTES, "sim_itl_s": 0.001} | settings
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(simulated_worker(sim_device=kind, **options)) for kind in devices]
        router = await stack.enter_async_context(running_router(*workers))
        await router.endpoints_when(
            lambda listed: all(e.connected and e.report.state == pb.ENDPOINT_STATE_READY for e in listed)
        )
        yield router


async def loaded(router: RunningRouter) -> list[str]:
    """The names of the loaded models of all endpoints."""
    stub = admin_pb2_grpc.AdminServiceStub(router.admin_channel)
    listed = await stub.ListEndpoints(admin_pb2.ListEndpointsRequest())
    return sorted(model.name for endpoint in listed.endpoints for model in endpoint.report.models)


async def queue_of(router: RunningRouter, calls: int) -> None:
    """Waits until at least so many calls wait in the router."""
    request = admin_pb2.WatchEndpointsRequest(min_interval_ms=10)
    async for listed in router.admin.WatchEndpoints(request, timeout=30):
        if sum(queue.waiting for queue in listed.queues) >= calls:
            return


def endpoint_service(router: RunningRouter) -> admin_pb2_grpc.EndpointServiceStub:
    return admin_pb2_grpc.EndpointServiceStub(router.admin_channel)


async def test_requests_load_their_model_once_and_report_it() -> None:
    async with mesh("cpu", "xpu", sim_load_s=0.3) as router:
        told = await asyncio.gather(*(generate(router, "a") for _ in range(10)))
        assert all(300 <= started.loading_ms <= started.queued_ms for started in told)
        assert await loaded(router) == ["a"]
        again = await generate(router, "a")
        assert (again.loading_ms, again.queued_ms) == (0, 0)


async def test_models_spread_over_devices_and_the_requested_device_is_kept() -> None:
    async with mesh("cpu", "xpu") as router:
        assert (await generate(router, "a", device="xpu")).device == pb.DEVICE_KIND_XPU
        assert (await generate(router, "d", device="cpu")).device == pb.DEVICE_KIND_CPU
        assert (await generate(router, "b")).device == pb.DEVICE_KIND_XPU  # it has room, and small models prefer it
        assert await loaded(router) == ["a", "b", "d"]


async def test_idle_models_give_way_least_recently_used_first_and_pinned_ones_stay() -> None:
    async with mesh("cpu") as router:
        await endpoint_service(router).LoadModel(admin_pb2.LoadModelRequest(model="a", pinned=True))
        await generate(router, "b")
        await generate(router, "c")
        assert await loaded(router) == ["a", "c"]
        with pytest.raises(ResourceExhausted, match=r"needs .* free") as caught:
            await generate(router, "d")
        assert caught.value.reason == "MODEL_DOES_NOT_FIT"
        assert (caught.value.metadata["needed_bytes"], caught.value.metadata["free_bytes"]) == ("70", "60")
        await endpoint_service(router).UnloadModel(admin_pb2.UnloadModelRequest(model="a"))
        await generate(router, "d")
        assert await loaded(router) == ["d"]


async def test_a_model_that_fits_nowhere_and_one_that_does_not_exist() -> None:
    async with mesh("cpu", "xpu") as router:
        with pytest.raises(ResourceExhausted) as caught:
            await generate(router, "e")
        assert caught.value.metadata["needed_bytes"] == "170"
        assert caught.value.metadata["free_bytes"] == "100"
        with pytest.raises(ModelNotFound, match="a, b, c, d, e"):
            await generate(router, "f")


async def test_two_models_that_do_not_fit_together_take_turns() -> None:
    async with mesh("cpu") as router:
        for _ in range(2):
            await generate(router, "d")
            await generate(router, "a")
        assert await loaded(router) == ["a"]


async def test_an_idle_model_that_expires_is_loaded_again() -> None:
    async with mesh("cpu", keep_alive_s=0.3, sim_load_s=0.1) as router:
        for _ in range(3):
            assert (await generate(router, "a")).loading_ms >= 100
            await router.endpoints_when(lambda listed: not any(each.report.models for each in listed))


@pytest.mark.alone
async def test_a_flood_is_served_whole_and_fairly() -> None:
    async with mesh("cpu", "xpu", model="a", max_sequences=4, max_waiting=2, sim_itl_s=0.02) as router:
        order: list[str] = []

        async def go(client: str) -> None:
            started = await generate(router, "a", client_id=client)
            order.append(client)
            assert started.loading_ms == 0

        flood = [asyncio.create_task(go("flood")) for _ in range(200)]
        await queue_of(router, 150)
        few = [asyncio.create_task(go("few")) for _ in range(10)]
        await asyncio.gather(*flood, *few)
        assert Counter(order) == {"flood": 200, "few": 10}
        assert order.index("few") < 100
        assert len(order) - order[::-1].index("few") < 150  # the last of the few was not last
        await router.endpoints_when(lambda listed: not any(endpoint.in_flight for endpoint in listed))
