"""Workers that register: the address they get, and that they are endpoints for as long as they call."""

import asyncio
from pathlib import Path

import grpc
import pytest

from infermesh.admin.v1 import admin_pb2 as pb
from infermesh.admin.v1 import admin_pb2_grpc as pb_grpc
from infermesh.inference.v1 import inference_pb2, inference_pb2_grpc
from infermesh_router.membership.registration import registered_address
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.rpc.status import from_rpc_error


@pytest.mark.parametrize(
    ("address", "peer", "found"),
    [
        ("worker:9000", "ipv4:10.0.0.1:4", "worker:9000"),
        (":9000", "ipv4:10.0.0.1:4", "10.0.0.1:9000"),
        (":9000", "ipv6:[fd00::7]:4", "[fd00::7]:9000"),
        (":9000", "ipv6:%5Bfd00::7%5D:4", "[fd00::7]:9000"),
        (":9000", "ipv6:[::ffff:10.0.0.1]:4", "10.0.0.1:9000"),
        ("[::1]:9000", "unix:", "[::1]:9000"),
    ],
)
def test_the_address_of_a_caller(address: str, peer: str, found: str) -> None:
    assert registered_address(address, peer) == found


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("", "host:port"),
        ("worker", "host:port"),
        ("worker:0", "1 to 65535"),
        ("dns:///workers:9000", "not a name of several"),
        ("0.0.0.0:9000", r"leave the host out \(':9000'\)"),
        ("[::]:9000", "where a worker listens"),
        (":9000", "has no host to take"),
        (":nonsense", "has no host to take"),
    ],
)
def test_what_is_no_address_is_refused(address: str, told: str) -> None:
    with pytest.raises(InvalidArgument, match=told) as caught:
        registered_address(address, "unix:/run/x")
    assert "address" in caught.value.fields


def stub(router) -> pb_grpc.AdminServiceStub:
    return pb_grpc.AdminServiceStub(router.channel)


async def test_an_endpoint_for_as_long_as_one_of_its_calls_is_open(start_worker, start_router) -> None:
    worker, router = await start_worker(), await start_router()
    port = worker.address.rpartition(":")[2]
    first, second = (
        stub(router).RegisterEndpoint(pb.RegisterEndpointRequest(address=address))
        for address in (worker.address, f":{port}")
    )
    assert [(await call.read()).address for call in (first, second)] == [worker.address] * 2
    (endpoint,) = await router.endpoints_when(lambda listed: len(listed) == 1 and listed[0].connected)
    assert endpoint.source == "registered"
    first.cancel()
    request = inference_pb2.GenerateRequest(model="m", text="hi")
    events = [event async for event in inference_pb2_grpc.InferenceServiceStub(router.channel).Generate(request)]
    assert events[0].started.endpoint == worker.address
    second.cancel()
    assert await router.endpoints_when(lambda listed: not listed) == []


async def test_a_running_stream_survives_the_end_of_its_registration(start_worker, start_router) -> None:
    go_on = asyncio.Event()

    async def hold(request, _context):
        yield inference_pb2.GenerateResponse(started=inference_pb2.Started(model=request.model))
        yield inference_pb2.GenerateResponse(delta=inference_pb2.Delta(text="a", token_ids=[1]))
        await go_on.wait()
        yield inference_pb2.GenerateResponse(finished=inference_pb2.Finished(finish_reason=1))

    worker, router = await start_worker(script=hold), await start_router()
    registration = stub(router).RegisterEndpoint(pb.RegisterEndpointRequest(address=worker.address))
    await registration.read()
    await router.endpoints_when(lambda listed: len(listed) == 1 and listed[0].connected)
    request = inference_pb2.GenerateRequest(model="m", text="hi")
    call = inference_pb2_grpc.InferenceServiceStub(router.channel).Generate(request)
    events = aiter(call)
    assert (await anext(events)).HasField("started")
    registration.cancel()
    await router.endpoints_when(lambda listed: not listed)
    go_on.set()
    assert [event.WhichOneof("event") async for event in events] == ["delta", "finished"]


async def test_a_bad_registration_is_refused_with_its_field(start_router) -> None:
    router = await start_router()
    call = stub(router).RegisterEndpoint(pb.RegisterEndpointRequest(address="0.0.0.0:1"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    error = from_rpc_error(caught.value)
    assert isinstance(error, InvalidArgument)
    assert set(error.fields) == {"address"}


async def test_endpoints_say_where_they_came_from(start_worker, start_router, tmp_path: Path) -> None:
    named, filed = await start_worker(), await start_worker()
    path = tmp_path / "workers"
    path.write_text(f"{filed.address}  # ours\n")
    router = await start_router(named, workers_file=str(path))
    listed = await router.endpoints_when(lambda listed: len(listed) == 2 and all(e.connected for e in listed))
    assert {e.address: e.source for e in listed} == {named.address: "static", filed.address: "file"}
    path.write_text("")
    (left,) = await router.endpoints_when(lambda listed: len(listed) == 1)
    assert left.address == named.address
