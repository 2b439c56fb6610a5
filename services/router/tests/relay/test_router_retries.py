"""Which failures are retried and which open a breaker, over scripted workers on real ports."""

from collections.abc import AsyncIterator

import pytest
from prometheus_client import CollectorRegistry

from infermesh.admin.v1 import admin_pb2 as admin
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.relay.retries import Retries
from infermesh_router.relay.retry_budget import RetryBudget
from infermesh_router.testing.router import StartRouter, StartWorker
from infermesh_router.testing.streams import generate, hold, refuse, stop_after_a_token, text
from infermesh_runtime.errors import Internal, InvalidArgument, ResourceExhausted, Unavailable
from infermesh_runtime.rpc.context import RpcContext


async def test_the_breaker_opens_is_told_and_lets_one_request_see(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    worker = await start_worker(script=refuse(Unavailable("broken")))
    router = await start_router(worker, breaker_failures=2, breaker_open_s=0.2)
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
    "error", [InvalidArgument("no"), ResourceExhausted("no"), Unavailable("no", reason="WORKER_LOADING")]
)
async def test_what_is_not_the_endpoints_fault_opens_no_breaker(
    start_worker: StartWorker, start_router: StartRouter, error: Exception
) -> None:
    worker = await start_worker(script=refuse(error))
    router = await start_router(worker, breaker_failures=1)
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


async def test_an_internal_error_is_tried_elsewhere_once(start_worker: StartWorker, start_router: StartRouter) -> None:
    workers = [await start_worker(script=refuse(Internal("a fault"))) for _ in range(3)]
    with pytest.raises(Internal, match="a fault"):
        await generate(await start_router(*workers))
    assert sum(len(worker.requests) for worker in workers) == 2
    running = [await start_worker(script=stop_after_a_token(Internal("a fault"))) for _ in range(2)]
    assert text(await generate(await start_router(*running))) == "Hello there"


def test_retries_end_with_the_budget() -> None:
    budget = RetryBudget(ratio=0, per_s=0, most=1)
    metrics = RequestMetrics(CollectorRegistry())
    Retries(9, budget, metrics).note("a", Unavailable("no"))
    retries = Retries(9, budget, metrics)
    retries.note("a", Unavailable("leaves", reason="WORKER_DRAINING"))
    with pytest.raises(Unavailable, match="no"):
        retries.note("b", Unavailable("no"))
