"""The router's metrics, as Prometheus reads them: each is there, and moves with what it measures."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from infermesh.admin.v1 import admin_pb2
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.openai.v1 import openai_pb2
from infermesh_router.testing.router import RunningRouter, StartRouter, StartWorker, delta, say_hello, started
from infermesh_runtime.errors import Unavailable
from infermesh_runtime.rpc.context import RpcContext

OURS = (
    "infermesh:router_requests",
    "infermesh:router_choices",
    "infermesh:router_retries",
    "infermesh:router_failovers",
    "infermesh:router_shed",
    "infermesh:router_refused",
    "infermesh:router_loads",
    "infermesh:router_hedges",
    "infermesh:router_overhead_seconds",
    "infermesh:router_queue_length",
    "infermesh:router_endpoint_ready",
    "infermesh:router_in_flight",
    "infermesh:router_seconds_to_drain",
    "infermesh:router_breaker_state",
    "infermesh:router_queue_time_seconds",
    "infermesh:router_time_to_first_token_seconds",
    "infermesh:router_e2e_request_latency_seconds",
    "infermesh:router_endpoint_running",
    "infermesh:router_endpoint_waiting",
    "infermesh:router_endpoint_kv_cache_usage",
    "infermesh:router_frames",
    "infermesh:router_frame_events",
)


class Metrics:
    """One scrape."""

    def __init__(self, text: str) -> None:
        self.families = {family.name: family for family in text_string_to_metric_families(text)}

    def value(self, name: str, **labels: str) -> float:
        """Sum of the samples of that name with those labels; 0 where there is none."""
        family = name.removesuffix("_total").removesuffix("_count")
        return sum(
            sample.value
            for sample in self.families[family].samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )


async def scrape(router: RunningRouter) -> Metrics:
    return Metrics((await router.openai.GetMetrics(openai_pb2.GetMetricsRequest())).data.decode())


async def generate(router: RunningRouter, model: str = "m", **fields: Any) -> list[pb.GenerateResponse]:
    request = pb.GenerateRequest(model=model, text="hi", **fields)
    return [event async for event in router.inference.Generate(request)]


async def listed(router: RunningRouter) -> dict[str, admin_pb2.Endpoint]:
    return {e.address: e for e in (await router.admin.ListEndpoints(admin_pb2.ListEndpointsRequest())).endpoints}


async def test_all_are_there_before_anything_happened(start_worker: StartWorker, start_router: StartRouter) -> None:
    metrics = await scrape(await start_router(await start_worker()))
    assert [name for name in OURS if name not in metrics.families] == []


async def test_an_answer_and_a_refusal(start_worker: StartWorker, start_router: StartRouter) -> None:
    worker = await start_worker()
    router = await start_router(worker)
    await generate(router)
    with pytest.raises(grpc.aio.AioRpcError):
        await generate(router, "no-such-model")
    with pytest.raises(grpc.aio.AioRpcError):
        await generate(router, device="cuda")
    metrics = await scrape(router)
    assert metrics.value("infermesh:router_requests_total", model_name="m", code="OK") == 1
    assert metrics.value("infermesh:router_requests_total", model_name="", code="NOT_FOUND") == 1
    assert metrics.value("infermesh:router_requests_total", model_name="m", code="FAILED_PRECONDITION") == 1
    assert metrics.value("infermesh:router_choices_total", reason="only_endpoint") == 1
    assert metrics.value("infermesh:router_overhead_seconds_count") == 1
    assert metrics.value("infermesh:router_queue_time_seconds_count", model_name="m") == 1
    assert metrics.value("infermesh:router_time_to_first_token_seconds_count", model_name="m") == 1
    assert metrics.value("infermesh:router_e2e_request_latency_seconds_count", model_name="m") == 1
    assert metrics.value("infermesh:router_endpoint_ready", endpoint=worker.address) == 1
    endpoint = (await listed(router))[worker.address]
    assert dict(endpoint.choices) == {"only_endpoint": 1}
    assert endpoint.breaker == admin_pb2.BREAKER_STATE_CLOSED
    assert endpoint.overhead_ms > 0


async def test_retries_and_the_breaker(start_worker: StartWorker, start_router: StartRouter) -> None:
    async def crash(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        raise Unavailable("engine crashed", reason="ENGINE_CRASHED")

    bad, good = await start_worker(script=crash), await start_worker()
    router = await start_router(bad, good, breaker_failures=1, breaker_open_s=600)
    while not (await listed(router))[bad.address].choices:
        await generate(router)
    metrics = await scrape(router)
    assert metrics.value("infermesh:router_retries_total") == 1
    states = {
        state: metrics.value("infermesh:router_breaker_state", endpoint=bad.address, state=state)
        for state in ("closed", "open", "half_open")
    }
    assert states == {"closed": 0, "open": 1, "half_open": 0}
    assert metrics.value("infermesh:router_breaker_state", endpoint=good.address, state="closed") == 1
    endpoints = await listed(router)
    assert endpoints[bad.address].breaker == admin_pb2.BREAKER_STATE_OPEN
    assert "crashed" in endpoints[bad.address].last_error


async def test_a_failover(start_worker: StartWorker, start_router: StartRouter) -> None:
    async def crash_later(request: pb.GenerateRequest, context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        if request.generated:
            yield started(request.model)
            async for event in say_hello(request, context):
                if not event.HasField("started"):
                    yield event
            return
        yield started(request.model)
        yield delta("Hello")
        raise Unavailable("engine crashed", reason="ENGINE_CRASHED")

    workers = [await start_worker(script=crash_later) for _ in range(2)]
    router = await start_router(*workers)
    events = await generate(router)
    left, went_on = events[0].started.endpoint, events[-1].finished.failovers[0].to_endpoint
    assert {left, went_on} == {worker.address for worker in workers}
    assert (await scrape(router)).value("infermesh:router_failovers_total", reason="ENGINE_CRASHED") == 1
    endpoints = await listed(router)
    assert (endpoints[left].failovers, endpoints[went_on].failovers) == (1, 0)


async def test_the_queue(start_worker: StartWorker, start_router: StartRouter) -> None:
    worker = await start_worker(load=pb.Load(max_running=1, running=1))
    router = await start_router(worker)
    waiting = asyncio.create_task(generate(router))
    async with asyncio.timeout(20):
        async for listing in router.admin.WatchEndpoints(admin_pb2.WatchEndpointsRequest(min_interval_ms=1)):
            if queues := listing.queues:
                break
            worker.tell()  # queues are listed with the next change of an endpoint
    assert [(queue.model, queue.waiting) for queue in queues] == [("m", 1)]
    assert (await scrape(router)).value("infermesh:router_queue_length", model_name="m") == 1
    report = (await router.inference.Health(pb.HealthRequest())).report
    assert report.load.waiting == 1
    worker.load = pb.Load(max_running=1)
    worker.become(pb.ENDPOINT_STATE_READY)
    (first, *_) = await waiting
    assert first.started.queued_ms > 0
    assert (await scrape(router)).value("infermesh:router_queue_length", model_name="m") == 0
    assert (await listed(router))[worker.address].queued_ms >= first.started.queued_ms - 1
