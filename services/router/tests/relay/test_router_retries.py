"""Which failures are retried and which open a breaker, over scripted workers on real ports."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from infermesh.admin.v1 import admin_pb2 as admin
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.openai.v1 import openai_pb2
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.relay.relay import Relay
from infermesh_router.relay.retrying.lost_endpoints import LostEndpoints
from infermesh_router.relay.retrying.retries import Retries
from infermesh_router.relay.retrying.retry_budget import RetryBudget
from infermesh_router.testing.router import (
    RunningRouter,
    ScriptedWorker,
    StartRouter,
    StartWorker,
    delta,
    say_hello,
    started,
)
from infermesh_router.testing.streams import ask, generate, hold, refuse, stop_after_a_token, text
from infermesh_runtime.errors import InfermeshError, Internal, InvalidArgument, ResourceExhausted, Unavailable
from infermesh_runtime.rpc.context import RpcContext


async def test_the_breaker_opens_is_told_and_lets_one_request_see(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    worker = await start_worker(script=refuse(Unavailable("broken")))
    router = await start_router(worker, breaker_failures=2, breaker_open_s=0.2, attempts=1)
    for _ in range(2):
        with pytest.raises(Unavailable, match="broken"):
            await generate(router)
    (listed,) = await router.endpoints_when(lambda _: True)
    assert listed.breaker == admin.BREAKER_STATE_OPEN
    asked = len(worker.requests)
    with pytest.raises(Unavailable) as caught:
        await generate(router)
    assert caught.value.retry_after_s
    assert len(worker.requests) == asked
    worker.script = hold(0)
    await router.endpoints_when(lambda es: es[0].breaker == admin.BREAKER_STATE_HALF_OPEN)
    assert text(await generate(router)) == "Hello world"
    await router.endpoints_when(lambda es: es[0].breaker == admin.BREAKER_STATE_CLOSED)


@pytest.mark.parametrize(
    "error",
    [
        InvalidArgument("no"),
        ResourceExhausted("no"),
        Unavailable("no", reason="WORKER_LOADING"),
        Internal("no", reason="LOGITS_NOT_FINITE"),
    ],
    ids=lambda error: error.reason,
)
async def test_what_is_not_the_endpoints_fault_opens_no_breaker(
    start_worker: StartWorker, start_router: StartRouter, error: Exception
) -> None:
    worker = await start_worker(script=refuse(error))
    router = await start_router(worker, breaker_failures=1, attempts=1)
    for _ in range(3):
        with pytest.raises(type(error), match="no"):
            await generate(router)
    assert len(worker.requests) == 3


async def test_a_full_queue_is_nobodys_fault_and_the_request_waits_its_turn(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    async def full_twice(request: pb.GenerateRequest, context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        if len(worker.requests) < 3:
            raise ResourceExhausted("full", reason="QUEUE_FULL")
        async for event in hold(0)(request, context):
            yield event

    worker = await start_worker(script=full_twice)
    assert text(await generate(await start_router(worker, breaker_failures=1))) == "Hello world"


async def test_a_full_endpoint_is_not_asked_again_before_it_reports(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    full, asked = asyncio.Event(), asyncio.Event()
    full.set()

    async def refuse_while_full(request: pb.GenerateRequest, context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        asked.set()
        if full.is_set():
            raise ResourceExhausted("full", reason="QUEUE_FULL")
        async for event in hold(0)(request, context):
            yield event

    worker = await start_worker(script=refuse_while_full)
    task = asyncio.create_task(generate(await start_router(worker)))
    await asked.wait()
    await asyncio.sleep(0.3)  # a request that asked again and again would have done so by now
    assert len(worker.requests) == 1
    full.clear()
    worker.tell()
    assert text(await task) == "Hello world"
    assert len(worker.requests) == 2


@pytest.mark.parametrize("max_tokens", [3, None])
async def test_a_stream_without_end_is_ended(
    start_worker: StartWorker, start_router: StartRouter, max_tokens: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    async def endless(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield started(request.model)
        while True:
            yield delta("x")
            await asyncio.sleep(0)

    worker = await start_worker(script=endless)
    router = await start_router(worker, failover_wait_s=0.2)
    events: list[pb.GenerateResponse] = []
    stop = pb.StopConditions(max_tokens=max_tokens)
    with pytest.raises(Unavailable) as caught:
        await generate(router, ask(stop=stop), events)
    assert caught.value.reason == "MALFORMED_MESSAGE"
    limit = max_tokens or 2048  # the model's context
    # Deltas that waited are merged on the way, and a merged one that goes beyond the limit is refused whole.
    assert len(text(events)) <= limit
    assert f"goes on after the {limit} tokens" in caplog.text


async def test_a_bug_of_the_router_is_counted_as_internal(
    start_worker: StartWorker, start_router: StartRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bug(self: Relay) -> None:
        raise RuntimeError("a bug")

    router = await start_router(await start_worker())
    monkeypatch.setattr(Relay, "begin", bug)
    with pytest.raises(Internal):
        await generate(router)
    metrics = (await router.openai.GetMetrics(openai_pb2.GetMetricsRequest())).data.decode()
    assert 'infermesh:router_requests_total{code="INTERNAL",model_name="m"} 1.0' in metrics


async def test_an_internal_error_is_tried_elsewhere_once(start_worker: StartWorker, start_router: StartRouter) -> None:
    workers = [await start_worker(script=refuse(Internal("a fault"))) for _ in range(3)]
    with pytest.raises(Internal, match="a fault"):
        await generate(await start_router(*workers))
    assert sum(len(worker.requests) for worker in workers) == 2
    running = [await start_worker(script=stop_after_a_token(Internal("a fault"))) for _ in range(2)]
    assert text(await generate(await start_router(*running))) == "Hello there"


async def test_a_request_goes_back_to_an_endpoint_that_went_away_when_the_next_one_does_too(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    workers = [await start_worker(script=hold()) for _ in range(2)]
    router = await start_router(*workers, reconnect_max_s=0.05)
    answer = asyncio.create_task(generate(router))
    first, second = [await cut_under_way(router, workers) for _ in range(2)]
    assert first is not second
    for worker in workers:
        worker.script = say_hello
    await first.start()  # within the seconds for which the request waits
    events = await answer
    assert (text(events), events[0].started.endpoint) == ("Hello world", first.address)


async def cut_under_way(router: RunningRouter, workers: list[ScriptedWorker]) -> ScriptedWorker:
    """Stops the worker that has the request; returns it."""
    listed = await router.endpoints_when(lambda endpoints: any(each.in_flight for each in endpoints))
    (address,) = [each.address for each in listed if each.in_flight]
    worker = next(each for each in workers if each.address == address)
    await worker.stop()
    return worker


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (Unavailable("gone", reason="STREAM_CUT"), 2),
        (Unavailable("drains", reason="WORKER_DRAINING"), 2),
        (Unavailable("crashed", reason="DEVICE_LOST"), 1),
        (InvalidArgument("no"), 1),
    ],
)
async def test_an_endpoint_that_only_was_away_is_asked_once_more(
    error: InfermeshError, asked: int, start_worker: StartWorker, start_router: StartRouter
) -> None:
    worker = await start_worker(script=refuse(error))
    with pytest.raises(type(error), match=error.message):
        await generate(await start_router(worker, attempts=9))
    assert len(worker.requests) == asked


async def test_retries_end_with_the_budget() -> None:
    budget = RetryBudget(ratio=0, per_s=0, most=1)
    metrics = RequestMetrics(CollectorRegistry())
    lost = LostEndpoints(lambda _delay_s: None, clock=time.monotonic)
    Retries(9, budget, metrics, lost).note("a", Unavailable("no"))
    retries = Retries(9, budget, metrics, lost)
    retries.note("a", Unavailable("leaves", reason="WORKER_DRAINING"))
    with pytest.raises(Unavailable, match="no"):
        retries.note("b", Unavailable("no"))
