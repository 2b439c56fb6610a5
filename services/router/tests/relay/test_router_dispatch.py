"""How a request gets to an endpoint and back, over real servers."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.testing.router import Script, StartRouter, StartWorker, delta, finished, started
from infermesh_router.testing.streams import ask, generate
from infermesh_runtime.errors import DeadlineExceeded, DeviceNotAvailable, Internal, InvalidArgument, Unavailable
from infermesh_runtime.rpc.context import RpcContext


async def fail_before_a_token(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    yield started(request.model)
    raise Unavailable("engine crashed", reason="DEVICE_LOST")


async def fail_after_a_token(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    yield started(request.model)
    yield delta("Hel")
    raise Unavailable("engine crashed", reason="ENGINE_CRASHED")


async def wait_after_a_token(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    yield started(request.model)
    yield delta("Hel")
    await asyncio.Event().wait()


async def wait_before_a_token(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
    yield started(request.model)
    await asyncio.Event().wait()


async def test_a_stream_is_relayed_and_started_says_who_serves(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    worker = await start_worker()
    events = await generate(await start_router(worker), ask(seed=7))
    assert 0 < events[0].started.overhead_ms < 10_000
    events[0].started.ClearField("overhead_ms")
    assert events[0].started == pb.Started(
        model="m", endpoint=worker.address, device=pb.DEVICE_KIND_CPU, reason="only_endpoint", prompt_tokens=3, seed=7
    )
    assert events[1:] == [delta("Hello"), delta(" world"), finished()]


async def test_a_seed_is_drawn_when_there_is_none(start_worker: StartWorker, start_router: StartRouter) -> None:
    worker = await start_worker()
    router = await start_router(worker)
    await generate(router, ask(seed=0))
    await generate(router, ask())
    await generate(router, ask())
    assert [r.HasField("seed") for r in worker.requests] == [True, True, True]
    assert worker.requests[0].seed == 0
    assert worker.requests[1].seed != worker.requests[2].seed
    assert worker.requests[1].text == "hi there"


async def test_the_request_id_and_the_remaining_time_are_passed_on(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    worker = await start_worker()
    await generate(await start_router(worker), ask(), metadata=(("x-request-id", "abc"),), timeout_s=50)
    assert worker.metadata[0]["x-request-id"] == "abc"
    assert 40 < (worker.remaining_s[0] or 0) < 51  # gRPC rounds timeouts up on their way
    await generate(await start_router(worker), ask(), timeout_s=None)
    assert worker.remaining_s[1] is None


async def test_a_failure_before_the_first_token_is_retried_elsewhere(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    bad, good = await start_worker(script=fail_before_a_token), await start_worker()
    router = await start_router(bad, good)
    for _ in range(4):
        events = await generate(router, ask())
        assert events[0].started.endpoint == good.address
        assert [e.WhichOneof("event") for e in events] == ["started", "delta", "delta", "finished"]
    assert bad.requests
    assert {e[0].started.reason for e in [await generate(router, ask()) for _ in range(4)]} & {"retry"}


async def test_a_retry_asks_for_the_same(start_worker: StartWorker, start_router: StartRouter) -> None:
    both = [await start_worker(script=fail_before_a_token) for _ in range(2)]
    with pytest.raises(Unavailable, match="engine crashed") as caught:
        await generate(await start_router(*both), ask())
    assert [len(worker.requests) for worker in both] == [1, 1]
    assert both[0].requests[0] == both[1].requests[0]
    assert caught.value.reason == "DEVICE_LOST"
    assert caught.value.retry_after_s == 1.0


async def test_attempts_are_limited(start_worker: StartWorker, start_router: StartRouter) -> None:
    workers = [await start_worker(script=fail_before_a_token) for _ in range(4)]
    with pytest.raises(Unavailable):
        await generate(await start_router(*workers, attempts=2), ask())
    assert sum(len(worker.requests) for worker in workers) == 2


async def test_a_stream_that_fails_everywhere_ends_with_the_error_after_so_many_moves(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    workers = [await start_worker(script=fail_after_a_token) for _ in range(2)]
    router = await start_router(*workers, max_failovers=1)
    events: list[pb.GenerateResponse] = []
    with pytest.raises(Unavailable, match="engine crashed"):
        await generate(router, ask(), events)
    assert [event.delta.text for event in events] == ["", "Hel", "Hel"]
    assert [len(worker.requests) for worker in workers] == [1, 1]
    again = max((worker.requests[0] for worker in workers), key=lambda request: len(request.generated))
    assert again.generated == [pb.Continuation(choice=0, token_ids=[1])]


async def test_without_failover_a_stream_that_fails_in_its_middle_ends_with_the_error(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    workers = [await start_worker(script=fail_after_a_token) for _ in range(2)]
    router = await start_router(*workers, max_failovers=0)
    with pytest.raises(Unavailable, match="engine crashed"):
        await generate(router, ask())
    assert sum(len(worker.requests) for worker in workers) == 1


async def test_a_clients_fault_is_not_retried(start_worker: StartWorker, start_router: StartRouter) -> None:
    async def refuse(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        raise InvalidArgument("too hot", fields={"sampling.temperature": "too hot"})
        yield

    workers = [await start_worker(script=refuse) for _ in range(2)]
    with pytest.raises(InvalidArgument, match="too hot") as caught:
        await generate(await start_router(*workers), ask())
    assert caught.value.fields == {"sampling.temperature": "too hot"}
    assert sum(len(worker.requests) for worker in workers) == 1


async def test_a_worker_cut_off_is_disconnected_at_once_and_found_again(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    worker = await start_worker(script=wait_before_a_token)
    router = await start_router(worker, attempts=1)
    running = asyncio.create_task(generate(router, ask()))
    await router.endpoints_when(lambda listed: listed[0].in_flight == 1)
    await worker.stop()
    with pytest.raises(Unavailable):
        await running
    (lost,) = await router.endpoints_when(lambda listed: not listed[0].connected)
    assert lost.last_error
    assert lost.in_flight == 0
    with pytest.raises(Unavailable) as caught:
        await generate(router, ask())
    assert caught.value.retry_after_s
    await worker.start()
    await router.endpoints_when(lambda listed: listed[0].connected)


async def test_a_cancel_reaches_the_worker(start_worker: StartWorker, start_router: StartRouter) -> None:
    worker = await start_worker(script=wait_after_a_token)
    router = await start_router(worker)
    call = router.inference.Generate(ask())
    await call.read()
    call.cancel()
    async with asyncio.timeout(10):
        await worker.interrupted.wait()
    await router.endpoints_when(lambda listed: listed[0].in_flight == 0)


async def test_a_cancel_before_the_first_token_reaches_the_worker(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    arrived = asyncio.Event()

    async def tell_and_wait(request: pb.GenerateRequest, context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        arrived.set()
        async for event in wait_before_a_token(request, context):
            yield event

    worker = await start_worker(script=tell_and_wait)
    router = await start_router(worker)
    call = router.inference.Generate(ask())
    reading = asyncio.ensure_future(call.read())
    await router.endpoints_when(lambda listed: listed[0].in_flight == 1)
    await asyncio.wait_for(arrived.wait(), 10)  # counted as in flight, it may still be on its way
    call.cancel()
    async with asyncio.timeout(10):
        await worker.interrupted.wait()
    await asyncio.gather(reading, return_exceptions=True)
    await router.endpoints_when(lambda listed: listed[0].in_flight == 0)


@pytest.mark.parametrize("script", [wait_before_a_token, wait_after_a_token])
async def test_a_deadline_ends_the_call_everywhere(
    start_worker: StartWorker, start_router: StartRouter, script: Script
) -> None:
    worker = await start_worker(script=script)
    router = await start_router(worker)
    with pytest.raises(DeadlineExceeded):
        await generate(router, ask(), timeout_s=0.2)
    async with asyncio.timeout(10):
        await worker.interrupted.wait()
    await router.endpoints_when(lambda listed: listed[0].in_flight == 0)


async def test_a_named_endpoint_is_asked_for_any_device(start_worker: StartWorker, start_router: StartRouter) -> None:
    workers = [await start_worker(), await start_worker()]
    router = await start_router(*workers)
    events = await generate(router, ask(device=workers[1].address))
    assert (events[0].started.endpoint, events[0].started.reason) == (workers[1].address, "named_endpoint")
    await generate(router, ask(device="cpu"))
    devices = [request.device for worker in workers for request in worker.requests]
    assert sorted(devices) == ["auto", "cpu"]


async def test_an_endpoint_is_named_by_its_device(start_worker: StartWorker, start_router: StartRouter) -> None:
    workers = [await start_worker(), await start_worker()]
    router = await start_router(*workers)
    for number, address in enumerate(sorted(worker.address for worker in workers)):  # as they are listed
        events = await generate(router, ask(device=f"cpu:{number}"))
        assert (events[0].started.endpoint, events[0].started.reason) == (address, "named_endpoint")
    assert {request.device for worker in workers for request in worker.requests} == {"auto"}
    with pytest.raises(DeviceNotAvailable, match="has the device 'cpu:7'"):
        await generate(router, ask(device="cpu:7"))


@pytest.mark.parametrize("device", ["CPU", "Cpu", "AUTO", "Auto"])
async def test_a_device_in_any_case(start_worker: StartWorker, start_router: StartRouter, device: str) -> None:
    router = await start_router(await start_worker())
    assert (await generate(router, ask(device=device)))[0].started.device == pb.DEVICE_KIND_CPU
    with pytest.raises(DeviceNotAvailable, match="'gpu'"):
        await generate(router, ask(device="GPU"))


async def test_a_draining_worker_gets_nothing_new(start_worker: StartWorker, start_router: StartRouter) -> None:
    leaving, staying = await start_worker(), await start_worker()
    router = await start_router(leaving, staying)
    leaving.become(pb.ENDPOINT_STATE_DRAINING)
    await router.endpoints_when(lambda listed: any(e.report.state == pb.ENDPOINT_STATE_DRAINING for e in listed))
    assert {(await generate(router, ask()))[0].started.endpoint for _ in range(4)} == {staying.address}


async def test_sessions_stay_on_their_endpoint(start_worker: StartWorker, start_router: StartRouter) -> None:
    router = await start_router(await start_worker(), await start_worker())
    served = [(await generate(router, ask(session_id="s")))[0].started for _ in range(5)]
    assert len({s.endpoint for s in served}) == 1
    assert served[-1].reason == "session_affinity"


async def test_a_stream_that_breaks_the_contract_is_an_error(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    async def no_started(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        yield delta("x")
        yield delta("y")

    async def nothing(request: pb.GenerateRequest, _context: RpcContext) -> AsyncIterator[pb.GenerateResponse]:
        return
        yield

    with pytest.raises(Internal, match="did not begin"):
        await generate(await start_router(await start_worker(script=no_started)), ask())
    with pytest.raises(Unavailable, match="before a token"):
        await generate(await start_router(await start_worker(script=nothing)), ask())
