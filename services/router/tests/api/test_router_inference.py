"""InferenceService of a router: refusals, unary calls, and health, over real servers."""

import asyncio

import grpc
import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.api.inference_servicer import SERVICE
from infermesh_router.testing.router import StartRouter, StartWorker, delta, finished
from infermesh_router.testing.streams import ask, generate
from infermesh_runtime.errors import DeviceNotAvailable, InvalidArgument, ModelNotFound, Unavailable
from infermesh_runtime.rpc.context import RpcContext


async def test_refusals(start_worker: StartWorker, start_router: StartRouter) -> None:
    router = await start_router(await start_worker())
    with pytest.raises(ModelNotFound, match="'nope' does not exist; available: m"):
        await generate(router, ask("nope"))
    with pytest.raises(DeviceNotAvailable, match="available: cpu"):
        await generate(router, ask(device="xpu"))
    raw = router.channel.unary_stream("/infermesh.inference.v1.InferenceService/Generate")(b"\xff\xff\xff")
    with pytest.raises(grpc.aio.AioRpcError, match="not a valid protobuf message"):
        await raw.read()


async def test_without_workers_calls_are_refused_with_a_time_to_retry(start_router: StartRouter) -> None:
    router = await start_router()
    with pytest.raises(Unavailable) as caught:
        await generate(router, ask())
    assert caught.value.retry_after_s == 1.0


async def test_unary_calls_are_relayed(start_worker: StartWorker, start_router: StartRouter) -> None:
    router = await start_router(await start_worker())
    stub = router.inference
    answer = await stub.Embed(pb.EmbedRequest(model="m", texts=["a", "b"]))
    assert answer.usage.prompt_tokens == 2
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.Infer(pb.InferRequest(model="m"))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_a_call_without_a_name_goes_to_the_only_model_of_its_kind(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    kinds = {"vectors": pb.MODEL_KIND_EMBED, "tensors": pb.MODEL_KIND_INFER}
    worker = await start_worker(models=("m", *kinds), kinds=kinds)
    router = await start_router(worker)
    await generate(router, ask(model=""))
    assert [request.model for request in worker.requests] == ["m"]
    assert (await router.inference.Embed(pb.EmbedRequest(texts=["a"]))).model == "vectors"
    other = await start_router(worker, await start_worker(models=("n",)))
    with pytest.raises(InvalidArgument, match="there are several"):
        await generate(other, ask(model=""))


async def test_health_is_the_sum_of_the_endpoints(start_worker: StartWorker, start_router: StartRouter) -> None:
    load = pb.Load(running=2, waiting_tokens=10, kv_cache_usage=0.5, kv_cache_tokens=100, decode_tokens_per_s=50)
    one = await start_worker(load=load)
    two = await start_worker(load=load, models=("m", "o"), state=pb.ENDPOINT_STATE_LOADING)
    router = await start_router(one, two)
    stub = router.inference
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


async def test_a_router_in_front_of_a_router(start_worker: StartWorker, start_router: StartRouter) -> None:
    inner = await start_router(await start_worker())
    outer = await start_router(inner.address)
    events = await generate(outer, ask())
    assert events[0].started.endpoint == inner.address
    assert events[1:] == [delta("Hello"), delta(" world"), finished()]


async def test_a_worker_of_a_later_version_is_used_as_far_as_it_is_known(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    """Enums grow: a state, a device and a model's state that this version has no name for break nothing."""
    later = await start_worker(state=99, device=99)
    router = await start_router(later, await start_worker(device=99))
    events = await generate(router, ask())
    assert events[0].started.endpoint != later.address
    report = (await router.inference.Health(pb.HealthRequest())).report
    assert report.state == pb.ENDPOINT_STATE_READY
    assert [model.state for model in report.models] == [pb.ENDPOINT_STATE_READY]
    alone = await start_router(later)
    report = (await alone.inference.Health(pb.HealthRequest())).report
    assert report.message == f"{later.address}: unknown"


async def test_what_is_no_worker_is_asked_again_and_says_why(start_router: StartRouter) -> None:
    async def garble(request: bytes, context: RpcContext) -> None:
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


async def test_only_the_first_message_of_a_stream_is_written_by_our_wrapper(
    start_worker: StartWorker, start_router: StartRouter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The wrapper sends the request id. Each later token is gRPC's own write, and costs nothing of ours."""
    wrapped: list[object] = []
    write_first = RpcContext._write_first

    async def count(context: RpcContext, message: object) -> None:
        if isinstance(message, bytes):  # the router relays bytes; the worker in this process writes messages
            wrapped.append(message)
        await write_first(context, message)

    monkeypatch.setattr(RpcContext, "_write_first", count)
    router = await start_router(await start_worker())
    assert len(await generate(router, ask())) == 4
    assert len(wrapped) == 1
