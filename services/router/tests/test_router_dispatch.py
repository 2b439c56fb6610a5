"""A request's way to an endpoint and back, over real servers."""

import asyncio

import grpc
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc as pb_grpc
from infermesh_router.api.inference_servicer import SERVICE
from infermesh_router.testing.router import delta, finished, started
from infermesh_runtime.errors import (
    DeadlineExceeded,
    DeviceNotAvailable,
    Internal,
    InvalidArgument,
    ModelNotFound,
    Unavailable,
)
from infermesh_runtime.rpc.status import from_rpc_error


async def fail_before_a_token(request, _context):
    yield started(request.model)
    raise Unavailable("engine crashed", reason="ENGINE_CRASHED")


async def fail_after_a_token(request, _context):
    yield started(request.model)
    yield delta("Hel")
    raise Unavailable("engine crashed", reason="ENGINE_CRASHED")


async def wait_after_a_token(request, _context):
    yield started(request.model)
    yield delta("Hel")
    await asyncio.Event().wait()


async def wait_before_a_token(request, _context):
    yield started(request.model)
    await asyncio.Event().wait()


def ask(model: str = "m", **fields: object) -> pb.GenerateRequest:
    return pb.GenerateRequest(model=model, text="hi there", **fields)


async def generate(
    router, request: pb.GenerateRequest, events: list[pb.GenerateResponse] | None = None, **options: object
) -> list[pb.GenerateResponse]:
    """All events, also put into `events`. Raises the InfermeshError that the status stands for."""
    events = [] if events is None else events
    try:
        async for event in pb_grpc.InferenceServiceStub(router.channel).Generate(request, **options):
            events.append(event)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error
    return events


async def test_a_stream_is_relayed_and_started_says_who_serves(start_worker, start_router) -> None:
    worker = await start_worker()
    events = await generate(await start_router(worker), ask(seed=7))
    assert 0 < events[0].started.overhead_ms < 10_000
    events[0].started.ClearField("overhead_ms")
    assert events[0].started == pb.Started(
        model="m", endpoint=worker.address, device=pb.DEVICE_KIND_CPU, reason="only_endpoint", prompt_tokens=3, seed=7
    )
    assert events[1:] == [delta("Hello"), delta(" world"), finished()]


async def test_a_seed_is_drawn_when_there_is_none(start_worker, start_router) -> None:
    worker = await start_worker()
    router = await start_router(worker)
    await generate(router, ask(seed=0))
    await generate(router, ask())
    await generate(router, ask())
    assert [r.HasField("seed") for r in worker.requests] == [True, True, True]
    assert worker.requests[0].seed == 0
    assert worker.requests[1].seed != worker.requests[2].seed
    assert worker.requests[1].text == "hi there"


async def test_the_request_id_and_the_remaining_time_are_passed_on(start_worker, start_router) -> None:
    worker = await start_worker()
    await generate(await start_router(worker), ask(), metadata=(("x-request-id", "abc"),), timeout=50)
    assert worker.metadata[0]["x-request-id"] == "abc"
    assert 40 < worker.remaining_s[0] < 51  # gRPC rounds timeouts up on their way
    await generate(await start_router(worker), ask())
    assert worker.remaining_s[1] is None


async def test_a_failure_before_the_first_token_is_retried_elsewhere(start_worker, start_router) -> None:
    bad, good = await start_worker(script=fail_before_a_token), await start_worker()
    router = await start_router(bad, good)
    for _ in range(4):
        events = await generate(router, ask())
        assert events[0].started.endpoint == good.address
        assert [e.WhichOneof("event") for e in events] == ["started", "delta", "delta", "finished"]
    assert bad.requests
    assert {e[0].started.reason for e in [await generate(router, ask()) for _ in range(4)]} & {"retry"}


async def test_a_retry_asks_for_the_same(start_worker, start_router) -> None:
    both = [await start_worker(script=fail_before_a_token) for _ in range(2)]
    with pytest.raises(Unavailable, match="engine crashed") as caught:
        await generate(await start_router(*both), ask())
    assert [len(worker.requests) for worker in both] == [1, 1]
    assert both[0].requests[0] == both[1].requests[0]
    assert caught.value.reason == "ENGINE_CRASHED"
    assert caught.value.retry_after_s == 1.0


async def test_attempts_are_limited(start_worker, start_router) -> None:
    workers = [await start_worker(script=fail_before_a_token) for _ in range(4)]
    with pytest.raises(Unavailable):
        await generate(await start_router(*workers, attempts=2), ask())
    assert sum(len(worker.requests) for worker in workers) == 2


async def test_a_stream_that_fails_everywhere_ends_with_the_error_after_so_many_moves(
    start_worker, start_router
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
    start_worker, start_router
) -> None:
    workers = [await start_worker(script=fail_after_a_token) for _ in range(2)]
    router = await start_router(*workers, max_failovers=0)
    with pytest.raises(Unavailable, match="engine crashed"):
        await generate(router, ask())
    assert sum(len(worker.requests) for worker in workers) == 1


async def test_a_clients_fault_is_not_retried(start_worker, start_router) -> None:
    async def refuse(request, _context):
        raise InvalidArgument("too hot", fields={"sampling.temperature": "too hot"})
        yield

    workers = [await start_worker(script=refuse) for _ in range(2)]
    with pytest.raises(InvalidArgument, match="too hot") as caught:
        await generate(await start_router(*workers), ask())
    assert caught.value.fields == {"sampling.temperature": "too hot"}
    assert sum(len(worker.requests) for worker in workers) == 1


async def test_a_worker_cut_off_is_disconnected_at_once_and_found_again(start_worker, start_router) -> None:
    worker = await start_worker(script=wait_before_a_token)
    router = await start_router(worker)
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


async def test_a_cancel_reaches_the_worker(start_worker, start_router) -> None:
    worker = await start_worker(script=wait_after_a_token)
    router = await start_router(worker)
    call = pb_grpc.InferenceServiceStub(router.channel).Generate(ask())
    await call.read()
    call.cancel()
    async with asyncio.timeout(10):
        await worker.interrupted.wait()
    await router.endpoints_when(lambda listed: listed[0].in_flight == 0)


async def test_a_cancel_before_the_first_token_reaches_the_worker(start_worker, start_router) -> None:
    worker = await start_worker(script=wait_before_a_token)
    router = await start_router(worker)
    call = pb_grpc.InferenceServiceStub(router.channel).Generate(ask())
    reading = asyncio.ensure_future(call.read())
    await router.endpoints_when(lambda listed: listed[0].in_flight == 1)
    call.cancel()
    async with asyncio.timeout(10):
        await worker.interrupted.wait()
    await asyncio.gather(reading, return_exceptions=True)
    await router.endpoints_when(lambda listed: listed[0].in_flight == 0)


@pytest.mark.parametrize("script", [wait_before_a_token, wait_after_a_token])
async def test_a_deadline_ends_the_call_everywhere(start_worker, start_router, script) -> None:
    worker = await start_worker(script=script)
    router = await start_router(worker)
    with pytest.raises(DeadlineExceeded):
        await generate(router, ask(), timeout=0.2)
    async with asyncio.timeout(10):
        await worker.interrupted.wait()
    await router.endpoints_when(lambda listed: listed[0].in_flight == 0)


async def test_refusals(start_worker, start_router) -> None:
    router = await start_router(await start_worker())
    with pytest.raises(ModelNotFound, match="'nope' does not exist; available: m"):
        await generate(router, ask("nope"))
    with pytest.raises(DeviceNotAvailable, match="there are: cpu"):
        await generate(router, ask(device="xpu"))
    raw = router.channel.unary_stream("/infermesh.inference.v1.InferenceService/Generate")(b"\xff\xff\xff")
    with pytest.raises(grpc.aio.AioRpcError, match="not valid protobuf"):
        await raw.read()


async def test_a_named_endpoint_is_asked_for_any_device(start_worker, start_router) -> None:
    workers = [await start_worker(), await start_worker()]
    router = await start_router(*workers)
    events = await generate(router, ask(device=workers[1].address))
    assert (events[0].started.endpoint, events[0].started.reason) == (workers[1].address, "named_endpoint")
    await generate(router, ask(device="cpu"))
    devices = [request.device for worker in workers for request in worker.requests]
    assert sorted(devices) == ["auto", "cpu"]


async def test_without_workers_calls_are_refused_with_a_time_to_retry(start_router) -> None:
    router = await start_router()
    with pytest.raises(Unavailable) as caught:
        await generate(router, ask())
    assert caught.value.retry_after_s == 1.0


async def test_a_draining_worker_gets_nothing_new(start_worker, start_router) -> None:
    leaving, staying = await start_worker(), await start_worker()
    router = await start_router(leaving, staying)
    leaving.become(pb.ENDPOINT_STATE_DRAINING)
    await router.endpoints_when(lambda listed: any(e.report.state == pb.ENDPOINT_STATE_DRAINING for e in listed))
    assert {(await generate(router, ask()))[0].started.endpoint for _ in range(4)} == {staying.address}


async def test_sessions_stay_on_their_endpoint(start_worker, start_router) -> None:
    router = await start_router(await start_worker(), await start_worker())
    served = [(await generate(router, ask(session_id="s")))[0].started for _ in range(5)]
    assert len({s.endpoint for s in served}) == 1
    assert served[-1].reason == "session_affinity"


async def test_a_stream_that_breaks_the_contract_is_an_error(start_worker, start_router) -> None:
    async def no_started(request, _context):
        yield delta("x")
        yield delta("y")

    async def nothing(request, _context):
        return
        yield

    with pytest.raises(Internal, match="did not begin"):
        await generate(await start_router(await start_worker(script=no_started)), ask())
    with pytest.raises(Unavailable, match="before a token"):
        await generate(await start_router(await start_worker(script=nothing)), ask())


async def test_unary_calls_are_relayed(start_worker, start_router) -> None:
    router = await start_router(await start_worker())
    stub = pb_grpc.InferenceServiceStub(router.channel)
    answer = await stub.Embed(pb.EmbedRequest(model="m", texts=["a", "b"]))
    assert answer.usage.prompt_tokens == 2
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Infer(pb.InferRequest(model="m"))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_health_is_the_sum_of_the_endpoints(start_worker, start_router) -> None:
    load = pb.Load(running=2, waiting_tokens=10, kv_cache_usage=0.5, kv_cache_tokens=100, decode_tokens_per_s=50)
    one = await start_worker(load=load)
    two = await start_worker(load=load, models=("m", "o"), state=pb.ENDPOINT_STATE_LOADING)
    router = await start_router(one, two)
    stub = pb_grpc.InferenceServiceStub(router.channel)
    report = (await stub.Health(pb.HealthRequest())).report
    assert report.state == pb.ENDPOINT_STATE_READY
    assert [(m.name, m.state) for m in report.models] == [
        ("m", pb.ENDPOINT_STATE_READY),
        ("o", pb.ENDPOINT_STATE_LOADING),
    ]
    assert (report.load.running, report.load.kv_cache_tokens) == (4, 200)
    assert report.load.kv_cache_usage == pytest.approx(0.5)
    watch = stub.WatchHealth(pb.WatchHealthRequest(min_interval_ms=1))
    one.become(pb.ENDPOINT_STATE_FAILED)
    async with asyncio.timeout(10):
        async for answer in watch:
            if answer.report.state == pb.ENDPOINT_STATE_LOADING:
                break
    assert one.address in answer.report.message
    watch.cancel()


async def test_a_router_in_front_of_a_router(start_worker, start_router) -> None:
    inner = await start_router(await start_worker())
    outer = await start_router(inner.address)
    events = await generate(outer, ask())
    assert events[0].started.endpoint == inner.address
    assert events[1:] == [delta("Hello"), delta(" world"), finished()]


async def test_a_worker_of_a_later_version_is_used_as_far_as_it_is_known(start_worker, start_router) -> None:
    """Enums grow: a state, a device and a model's state that this version has no name for break nothing."""
    later = await start_worker(state=99, device=99)
    router = await start_router(later, await start_worker(device=99))
    events = await generate(router, ask())
    assert events[0].started.endpoint != later.address
    report = (await pb_grpc.InferenceServiceStub(router.channel).Health(pb.HealthRequest())).report
    assert report.state == pb.ENDPOINT_STATE_READY
    assert [model.state for model in report.models] == [pb.ENDPOINT_STATE_READY]
    alone = await start_router(later)
    report = (await pb_grpc.InferenceServiceStub(alone.channel).Health(pb.HealthRequest())).report
    assert report.message == f"{later.address}: unknown"


async def test_what_is_no_worker_is_asked_again_and_says_why(start_router) -> None:
    async def garble(request, context):
        await context.write(b"\xff\xff")

    server = grpc.aio.server()
    methods = {"WatchHealth": grpc.unary_stream_rpc_method_handler(garble)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, methods)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    router = await start_router(f"127.0.0.1:{port}", connected=False)
    (endpoint,) = await router.endpoints_when(lambda listed: bool(listed and listed[0].last_error))
    assert endpoint.last_error == "it sent a malformed health report"
    assert not endpoint.connected
    await server.stop(None)
    await router.endpoints_when(lambda listed: "UNAVAILABLE" in listed[0].last_error)
