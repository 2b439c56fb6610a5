"""Retries, hedges, breakers and moves of streams, over scripted workers on real ports."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import grpc
import pytest
from prometheus_client import CollectorRegistry

from infermesh.admin.v1 import admin_pb2 as admin
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc as pb_grpc
from infermesh_router.admission.admission import Admission
from infermesh_router.admission.sessions import Sessions
from infermesh_router.app import build_fleet
from infermesh_router.config.settings import RouterSettings
from infermesh_router.fleet.breaker import BreakerState
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.policy.choice import choose
from infermesh_router.relay.dispatcher import Dispatcher
from infermesh_router.relay.retries import Retries
from infermesh_router.relay.retry_budget import RetryBudget
from infermesh_router.requests.call import from_generate
from infermesh_router.testing.router import delta, finished, started
from infermesh_runtime.errors import Internal, InvalidArgument, ResourceExhausted, Unavailable
from infermesh_runtime.rpc.status import from_rpc_error


def ask(**fields: object) -> pb.GenerateRequest:
    return pb.GenerateRequest(model="m", text="hi there", **fields)


async def generate(router, request: pb.GenerateRequest | None = None) -> list[pb.GenerateResponse]:
    call = pb_grpc.InferenceServiceStub(router.channel).Generate(request or ask(), timeout=20)
    try:
        return [event async for event in call]
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


def text(events: list[pb.GenerateResponse]) -> str:
    return "".join(event.delta.text for event in events)


def hold(seconds: float | None = None):
    """Says nothing for so long, or for ever, then "Hello world"."""

    async def script(request, _context):
        yield started(request.model)
        await (asyncio.Event().wait() if seconds is None else asyncio.sleep(seconds))
        yield delta("Hello")
        yield delta(" world")
        yield finished()

    return script


def stop_after_a_token(error: Exception | None):
    """A token, then the error, or silence."""

    async def script(request, _context):
        yield started(request.model)
        if request.generated:
            yield delta(" there")
            yield finished()
            return
        yield delta("Hello")
        if error is not None:
            raise error
        await asyncio.Event().wait()

    return script


def refuse(error: Exception):
    async def script(request, _context):
        raise error
        yield

    return script


async def test_a_slow_first_token_is_hedged_and_the_loser_cancelled(start_worker, start_router) -> None:
    slow, quick = await start_worker(script=hold()), await start_worker(script=hold(0))
    router = await start_router(slow, quick, hedge_after_s=0.05)
    for _ in range(4):
        events = await generate(router)
        assert text(events) == "Hello world"
        assert events[0].started.endpoint == quick.address
    assert slow.requests
    async with asyncio.timeout(10):
        await slow.interrupted.wait()
    await router.endpoints_when(lambda listed: not any(endpoint.in_flight for endpoint in listed))


async def test_without_the_setting_nothing_is_hedged(start_worker, start_router) -> None:
    workers = [await start_worker(script=hold(0.2)) for _ in range(2)]
    router = await start_router(*workers)
    await generate(router)
    assert sum(len(worker.requests) for worker in workers) == 1


async def test_a_hedge_needs_budget_and_somewhere_to_go(start_worker, start_router) -> None:
    alone = await start_worker(script=hold(0.2))
    assert text(await generate(await start_router(alone, hedge_after_s=0.01))) == "Hello world"
    assert len(alone.requests) == 1


async def test_when_both_hedges_fail_the_request_is_tried_again(start_worker, start_router) -> None:
    bad = [await start_worker(script=refuse(Unavailable("no"))) for _ in range(2)]
    router = await start_router(*bad, await start_worker(), hedge_after_s=0.01)
    assert text(await generate(router)) == "Hello world"


@asynccontextmanager
async def dispatching(*workers) -> AsyncIterator[tuple[Dispatcher, Fleet]]:
    """A dispatcher before the workers, once all are connected."""
    fleet = build_fleet(RouterSettings(), on_cache_lost=lambda _address: None)
    metrics, sessions = RequestMetrics(CollectorRegistry()), Sessions()
    admission = Admission(fleet, choose=choose, metrics=metrics, sessions=sessions)
    fleet.set_addresses(worker.address for worker in workers)
    try:
        await until(fleet, lambda: all(endpoint.connected for endpoint in fleet.endpoints))
        yield Dispatcher(admission, fleet=fleet, choose=choose, metrics=metrics, sessions=sessions), fleet
    finally:
        await fleet.close()


async def until(fleet: Fleet, fits: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not fits():
            await fleet.changes.wait_beyond(fleet.changes.version)


async def test_streams_move_off_an_endpoint_and_nobody_is_blamed(start_worker) -> None:
    workers = [await start_worker(script=stop_after_a_token(None)) for _ in range(2)]
    async with dispatching(*workers) as (dispatcher, fleet):
        call = from_generate(ask())
        async with dispatcher.generate(call, None, since_s=time.perf_counter()) as generation:
            left = generation.started.started.endpoint
            assert dispatcher.move_streams(left) == 1
            assert dispatcher.move_streams(left) == 0
            messages = [generation.first, *[message async for message in generation.rest]]
        events = [pb.GenerateResponse.FromString(message) for message in messages]
        assert text(events) == "Hello there"
        (told,) = events[-1].finished.failovers
        assert (told.from_endpoint, told.reason) == (left, "DRAINED")
        assert told.to_endpoint != left
        assert not any(endpoint.in_flight for endpoint in fleet.endpoints)
        assert {endpoint.breaker.state for endpoint in fleet.endpoints} == {BreakerState.CLOSED}


async def test_what_waits_for_its_first_token_moves_too(start_worker) -> None:
    came = asyncio.Event()

    async def wait(request, context):
        came.set()
        async for event in hold()(request, context):
            yield event

    workers = [await start_worker(script=wait) for _ in range(2)]
    async with dispatching(*workers) as (dispatcher, _):

        async def run() -> str:
            async with dispatcher.generate(from_generate(ask()), None, since_s=time.perf_counter()) as generation:
                messages = [generation.first, *[message async for message in generation.rest]]
                return text([pb.GenerateResponse.FromString(message) for message in messages])

        running = asyncio.create_task(run())
        await came.wait()
        (left,) = (worker for worker in workers if worker.requests)
        for worker in workers:
            worker.script = hold(0)
        assert dispatcher.move_streams(left.address) == 1
        assert await running == "Hello world"


async def test_streams_that_nobody_else_can_go_on_with_stay(start_worker) -> None:
    worker = await start_worker(script=stop_after_a_token(None))
    async with dispatching(worker) as (dispatcher, _):
        async with dispatcher.generate(from_generate(ask()), None, since_s=time.perf_counter()):
            assert dispatcher.move_streams(worker.address) == 0
        async with asyncio.timeout(10):
            await worker.interrupted.wait()


async def test_silence_is_borne_when_there_is_nobody_else(start_worker, start_router) -> None:
    worker = await start_worker(script=hold(0.5))
    settings = {"first_token_timeout_s": 0.1, "first_token_timeout_max_s": 60, "stall_timeout_s": 0.1}
    assert text(await generate(await start_router(worker, **settings))) == "Hello world"


async def test_but_not_for_ever(start_worker, start_router) -> None:
    worker = await start_worker(script=hold())
    settings = {"first_token_timeout_s": 0.1, "first_token_timeout_max_s": 0.2}
    with pytest.raises(Unavailable) as caught:
        await generate(await start_router(worker, **settings))
    assert caught.value.reason == "FIRST_TOKEN_TIMEOUT"


async def test_a_client_that_reads_slowly_is_no_silence(start_worker, start_router) -> None:
    async def much(request, _context):
        yield started(request.model)
        for _ in range(40):
            yield delta("x" * 50_000)
        yield finished()

    workers = [await start_worker(script=much) for _ in range(2)]
    router = await start_router(*workers, stall_timeout_s=0.05)
    call = pb_grpc.InferenceServiceStub(router.channel).Generate(ask(), timeout=20)
    await call.read()
    await asyncio.sleep(0.5)  # longer than the stall timeout
    events = [event async for event in _rest(call)]
    assert len(text(events)) == 40 * 50_000
    assert not events[-1].finished.failovers


async def _rest(call):
    while (event := await call.read()) is not grpc.aio.EOF:
        yield event


async def test_a_client_that_leaves_while_its_stream_moves_frees_everything(start_worker) -> None:
    came = asyncio.Event()

    async def crash_then_wait(request, _context):
        yield started(request.model)
        if request.generated:
            came.set()
            await asyncio.Event().wait()
        yield delta("Hello")
        raise Unavailable("gone")

    workers = [await start_worker(script=crash_then_wait) for _ in range(2)]
    async with dispatching(*workers) as (dispatcher, fleet):

        async def run() -> None:
            async with dispatcher.generate(from_generate(ask()), None, since_s=time.perf_counter()) as generation:
                async for _ in generation.rest:
                    pass

        running = asyncio.create_task(run())
        async with asyncio.timeout(10):
            await came.wait()
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
        assert not any(endpoint.in_flight for endpoint in fleet.endpoints)


async def test_the_breaker_opens_is_told_and_lets_one_request_see(start_worker, start_router) -> None:
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
async def test_what_is_not_the_endpoints_fault_opens_no_breaker(start_worker, start_router, error) -> None:
    worker = await start_worker(script=refuse(error))
    router = await start_router(worker, breaker_failures=1)
    for _ in range(3):
        with pytest.raises(type(error), match="no"):
            await generate(router)
    assert len(worker.requests) == 3


async def test_a_full_queue_is_nobodys_fault_and_the_request_waits_its_turn(start_worker, start_router) -> None:
    async def full_twice(request, context):
        if len(worker.requests) < 3:
            raise ResourceExhausted("full", reason="QUEUE_FULL")
        async for event in hold(0)(request, context):
            yield event

    worker = await start_worker(script=full_twice)
    assert text(await generate(await start_router(worker, breaker_failures=1))) == "Hello world"


async def test_an_internal_error_is_tried_elsewhere_once(start_worker, start_router) -> None:
    workers = [await start_worker(script=refuse(Internal("a fault"))) for _ in range(3)]
    with pytest.raises(Internal, match="a fault"):
        await generate(await start_router(*workers))
    assert sum(len(worker.requests) for worker in workers) == 2
    running = [await start_worker(script=stop_after_a_token(Internal("a fault"))) for _ in range(2)]
    assert text(await generate(await start_router(*running))) == "Hello there"


async def test_retries_end_with_the_budget() -> None:
    budget = RetryBudget(ratio=0, per_s=0, most=1)
    metrics = RequestMetrics(CollectorRegistry())
    await Retries(9, budget, metrics).after("a", Unavailable("no"))
    retries = Retries(9, budget, metrics)
    await retries.after("a", Unavailable("leaves", reason="WORKER_DRAINING"))
    with pytest.raises(Unavailable, match="no"):
        await retries.after("b", Unavailable("no"))
