"""Several routers work together: side by side with the same workers, and one in front of others."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import AsyncExitStack
from typing import Any

import grpc
import pytest

from infermesh.admin.v1 import admin_pb2
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc as pb_grpc
from infermesh.openai.v1 import openai_pb2, openai_pb2_grpc
from infermesh_router.testing.router import RunningRouter, running_router
from infermesh_runtime.errors import DeviceNotAvailable
from infermesh_runtime.rpc.status import from_rpc_error
from infermesh_worker.testing.processes import WorkerProcess, simulated_worker
from tests.integration.conditions import ready

TOKENS = 24


def ask(text: str = "Hello", **fields: Any) -> pb.GenerateRequest:
    stop = pb.StopConditions(max_tokens=TOKENS, ignore_eos=True)
    return pb.GenerateRequest(model="simulated", text=text, seed=1, stop=stop, **fields)


async def generate(router: RunningRouter, request: pb.GenerateRequest) -> list[pb.GenerateResponse]:
    """The events of a stream, which must be complete. Raises the InfermeshError that its status stands for."""
    try:
        events = [event async for event in pb_grpc.InferenceServiceStub(router.channel).Generate(request)]
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    assert sum(len(event.delta.token_ids) for event in events) == TOKENS
    assert events[-1].finished.usage.completion_tokens == TOKENS
    return events


@pytest.mark.alone  # reports of the load that come late let a router flood a worker
async def test_two_routers_share_their_workers_without_starving_or_flooding_one() -> None:
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(simulated_worker(sim_itl_s=0.01)) for _ in range(2)]
        routers = [await stack.enter_async_context(running_router(*workers)) for _ in range(2)]
        for router in routers:
            await router.endpoints_when(ready(2))
        served: Counter[str] = Counter()
        most: Counter[str] = Counter()

        async def client(router: RunningRouter, number: int) -> None:
            for turn in range(6):
                events = await generate(router, ask(f"client {number} asks {turn}"))
                served[events[0].started.endpoint] += 1

        async def watch() -> None:
            """Notes every report that the second router gets, until it is cancelled."""
            await routers[1].endpoints_when(note)

        def note(listed: Sequence[admin_pb2.Endpoint]) -> bool:
            for endpoint in listed:
                most[endpoint.address] = max(most[endpoint.address], endpoint.report.load.running)
            return False

        watching = asyncio.create_task(watch())
        async with asyncio.timeout(60):
            await asyncio.gather(*(client(router, 2 * n + i) for n in range(6) for i, router in enumerate(routers)))
        watching.cancel()
        assert served.total() == 72
        assert min(served[worker] for worker in workers) >= 24
        assert 0 < max(most.values()) < 12  # 12 run at once, so 6 each would be even


async def test_a_router_sees_what_another_one_sends() -> None:
    async with (
        simulated_worker(sim_itl_s=0.02) as one,
        simulated_worker(sim_itl_s=0.02) as two,
        running_router(one, two) as first,
        running_router(one, two) as second,
    ):
        await first.endpoints_when(ready(2))
        await second.endpoints_when(ready(2))
        stop = pb.StopConditions(max_tokens=4000, ignore_eos=True)
        calls = [
            pb_grpc.InferenceServiceStub(first.channel).Generate(
                pb.GenerateRequest(model="simulated", text=f"long {number}", device=one, stop=stop)
            )
            for number in range(4)
        ]
        await second.endpoints_when(lambda es: any(e.address == one and e.report.load.running == 4 for e in es))
        for number in range(3):
            events = await generate(second, ask(f"short {number}"))
            assert events[0].started.endpoint == two
        for call in calls:
            call.cancel()


async def test_a_shared_prefix_lands_on_the_same_endpoint_through_both() -> None:
    """Consistent hashing decides at first, because neither router knows of the other's requests."""
    async with AsyncExitStack() as stack:
        workers = [await stack.enter_async_context(simulated_worker()) for _ in range(2)]
        routers = [await stack.enter_async_context(running_router(*workers)) for _ in range(2)]
        for router in routers:
            await router.endpoints_when(ready(2))
        for topic in range(4):
            prefix = f"You are assistant number {topic}. " + "Follow these rules with care. " * 60
            served = set()
            for number, router in enumerate(routers):
                events = await generate(router, ask(f"{prefix} Question {number}."))
                served.add(events[0].started.endpoint)
                for each in routers:  # the other one hears of the end from the worker
                    await each.endpoints_when(lambda es: not any(e.in_flight or e.report.load.running for e in es))
            assert len(served) == 1


async def test_a_router_before_routers() -> None:
    async with (
        simulated_worker(sim_device="cpu") as cpu,
        simulated_worker(sim_device="xpu") as xpu,
        running_router(cpu, xpu) as inner,
        running_router(inner.address) as outer,
    ):
        await inner.endpoints_when(ready(2))
        (endpoint,) = await outer.endpoints_when(ready(1))
        assert [model.name for model in endpoint.report.models] == ["simulated"]
        for device, kind in (("cpu", pb.DEVICE_KIND_CPU), ("xpu", pb.DEVICE_KIND_XPU), ("gpu", pb.DEVICE_KIND_XPU)):
            started = (await generate(outer, ask(device=device)))[0].started
            assert (started.endpoint, started.device) == (inner.address, kind)
            assert started.reason
        with pytest.raises(DeviceNotAvailable, match="'cuda'"):
            await generate(outer, ask(device="cuda"))
        report = (await pb_grpc.InferenceServiceStub(outer.channel).Health(pb.HealthRequest())).report
        assert report.state == pb.ENDPOINT_STATE_READY
        assert report.device.kind == pb.DEVICE_KIND_UNSPECIFIED
        assert report.load.max_running == 2 * 64
        answer = await openai_pb2_grpc.OpenAIServiceStub(outer.channel).GetHealth(openai_pb2.GetHealthRequest())
        assert b"ok" in answer.data


async def test_a_device_that_only_one_of_the_inner_routers_has_is_found() -> None:
    async with (
        simulated_worker(sim_device="cpu") as cpu,
        simulated_worker(sim_device="xpu") as xpu,
        running_router(cpu) as of_cpu,
        running_router(xpu) as of_xpu,
        running_router(of_cpu.address, of_xpu.address) as outer,
    ):
        await outer.endpoints_when(ready(2))
        for number in range(4):
            started = (await generate(outer, ask(f"question {number}", device="xpu")))[0].started
            assert (started.endpoint, started.device) == (of_xpu.address, pb.DEVICE_KIND_XPU)


async def test_the_death_of_an_inner_router_moves_its_streams() -> None:
    async with AsyncExitStack() as stack:
        worker = await stack.enter_async_context(simulated_worker(sim_itl_s=0.05))
        inner = [await WorkerProcess.start("infermesh_router", workers=worker) for _ in range(2)]
        for process in inner:
            stack.push_async_callback(process.stop)
        by_address = {await process.ready(): process for process in inner}
        outer = await stack.enter_async_context(running_router(*by_address))
        await outer.endpoints_when(ready(2))
        undisturbed = await generate(outer, ask())
        call = pb_grpc.InferenceServiceStub(outer.channel).Generate(ask())
        events = [await call.read()]
        by_address[events[0].started.endpoint].process.kill()
        async with asyncio.timeout(30):
            while (event := await call.read()) is not grpc.aio.EOF:
                events.append(event)
        (failover,) = events[-1].finished.failovers
        assert {failover.from_endpoint, failover.to_endpoint} == set(by_address)
        assert "".join(e.delta.text for e in events) == "".join(e.delta.text for e in undisturbed)
        assert sum(len(event.delta.token_ids) for event in events) == TOKENS
