"""The router's metrics, as Prometheus reads them: each is there, and moves with what it measures."""

import asyncio

import grpc
import pytest
from prometheus_client.parser import text_string_to_metric_families

from infermesh.admin.v1 import admin_pb2, admin_pb2_grpc
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc as pb_grpc
from infermesh.openai.v1 import openai_pb2, openai_pb2_grpc
from infermesh_router.fleet.endpoint_stats import RECENT, EndpointStats, StatsByAddress
from infermesh_router.testing.router import RunningRouter, delta, say_hello, started
from infermesh_runtime.errors import Unavailable

OURS = (
    "infermesh:router_requests",
    "infermesh:router_choices",
    "infermesh:router_retries",
    "infermesh:router_failovers",
    "infermesh:router_shed",
    "infermesh:router_loads",
    "infermesh:router_hedges",
    "infermesh:router_overhead_seconds",
    "infermesh:router_queue_length",
    "infermesh:router_endpoint_ready",
    "infermesh:router_in_flight",
    "infermesh:router_seconds_to_drain",
    "infermesh:router_breaker_state",
    "vllm:request_queue_time_seconds",
    "vllm:time_to_first_token_seconds",
    "vllm:e2e_request_latency_seconds",
    "vllm:num_requests_running",
    "vllm:num_requests_waiting",
    "vllm:kv_cache_usage_perc",
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
    stub = openai_pb2_grpc.OpenAIServiceStub(router.channel)
    return Metrics((await stub.GetMetrics(openai_pb2.GetMetricsRequest())).data.decode())


async def generate(router: RunningRouter, model: str = "m", **fields: object) -> list[pb.GenerateResponse]:
    stub = pb_grpc.InferenceServiceStub(router.channel)
    return [event async for event in stub.Generate(pb.GenerateRequest(model=model, text="hi", **fields))]


async def listed(router: RunningRouter) -> dict[str, admin_pb2.Endpoint]:
    stub = admin_pb2_grpc.AdminServiceStub(router.channel)
    return {e.address: e for e in (await stub.ListEndpoints(admin_pb2.ListEndpointsRequest())).endpoints}


async def test_all_are_there_before_anything_happened(start_worker, start_router) -> None:
    metrics = await scrape(await start_router(await start_worker()))
    assert [name for name in OURS if name not in metrics.families] == []


async def test_an_answer_and_a_refusal(start_worker, start_router) -> None:
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
    assert metrics.value("vllm:request_queue_time_seconds_count", model_name="m") == 1
    assert metrics.value("vllm:time_to_first_token_seconds_count", model_name="m") == 1
    assert metrics.value("vllm:e2e_request_latency_seconds_count", model_name="m") == 1
    assert metrics.value("infermesh:router_endpoint_ready", endpoint=worker.address) == 1
    endpoint = (await listed(router))[worker.address]
    assert dict(endpoint.choices) == {"only_endpoint": 1}
    assert endpoint.breaker == admin_pb2.BREAKER_STATE_CLOSED
    assert endpoint.overhead_ms > 0


async def test_retries_and_the_breaker(start_worker, start_router) -> None:
    async def crash(request, _context):
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


async def test_a_failover(start_worker, start_router) -> None:
    async def crash_later(request, context):
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


async def test_the_queue(start_worker, start_router) -> None:
    worker = await start_worker(load=pb.Load(max_running=1, running=1))
    router = await start_router(worker)
    waiting = asyncio.create_task(generate(router))
    stub = admin_pb2_grpc.AdminServiceStub(router.channel)
    async with asyncio.timeout(20):
        async for listing in stub.WatchEndpoints(admin_pb2.WatchEndpointsRequest(min_interval_ms=1)):
            if queues := listing.queues:
                break
            worker.tell()  # queues are listed with the next change of an endpoint
    assert [(queue.model, queue.waiting) for queue in queues] == [("m", 1)]
    assert (await scrape(router)).value("infermesh:router_queue_length", model_name="m") == 1
    report = (await pb_grpc.InferenceServiceStub(router.channel).Health(pb.HealthRequest())).report
    assert report.load.waiting == 1
    worker.load = pb.Load(max_running=1)
    worker.become(pb.ENDPOINT_STATE_READY)
    (first, *_) = await waiting
    assert first.started.queued_ms > 0
    assert (await scrape(router)).value("infermesh:router_queue_length", model_name="m") == 0
    assert (await listed(router))[worker.address].queued_ms >= first.started.queued_ms - 1


def test_means_are_of_the_last_requests() -> None:
    stats = EndpointStats()
    assert (stats.queued_ms, stats.overhead_ms) == (0.0, 0.0)
    for _ in range(RECENT):
        stats.note_sent(queued_s=1.0, overhead_s=0.001)
    assert (stats.queued_ms, stats.overhead_ms) == pytest.approx((1000.0, 1.0))
    for _ in range(RECENT):
        stats.note_sent(queued_s=0.5, overhead_s=0.002)
    assert (stats.queued_ms, stats.overhead_ms) == pytest.approx((500.0, 2.0))


def test_addresses_that_come_and_go_take_no_more_memory() -> None:
    stats = StatsByAddress(max_addresses=2)
    stats.of("a").failovers = 1
    stats.of("b")
    assert stats.of("a").failovers == 1
    stats.of("c")
    assert stats.of("a").failovers == 1
    stats.of("b").failovers += 1
    assert stats.of("b").failovers == 1
