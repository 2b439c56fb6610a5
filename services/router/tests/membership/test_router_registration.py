"""Workers that register: the address they get, and that they are endpoints for as long as they call."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest

from infermesh.admin.v1 import admin_pb2 as pb
from infermesh.inference.v1 import inference_pb2
from infermesh_router.membership.registration import registered_address
from infermesh_router.testing.router import StartRouter, StartWorker
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.rpc.context import RpcContext
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
        ("dns:///workers:9000", "not a dns:/// name"),
        ("0.0.0.0:9000", r"leave the host out \(':9000'\)"),
        ("[::]:9000", "can listen on"),
        (":9000", "its host is empty"),
        (":nonsense", "its host is empty"),
    ],
)
def test_what_is_no_address_is_refused(address: str, told: str) -> None:
    with pytest.raises(InvalidArgument, match=told) as caught:
        registered_address(address, "unix:/run/x")
    assert "address" in caught.value.fields


async def test_an_endpoint_for_as_long_as_one_of_its_calls_is_open(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    worker = await start_worker()
    router = await start_router(admin_listen="127.0.0.1:0", mesh_token="secret")  # a unix socket has no host
    port = worker.address.rpartition(":")[2]
    first, second = (
        router.admin.RegisterEndpoint(pb.RegisterEndpointRequest(address=address))
        for address in (worker.address, f":{port}")
    )
    assert [(await call.read()).address for call in (first, second)] == [worker.address] * 2
    (endpoint,) = await router.endpoints_when(lambda listed: len(listed) == 1 and listed[0].connected)
    assert endpoint.source == "registered"
    first.cancel()
    request = inference_pb2.GenerateRequest(model="m", text="hi")
    events = [event async for event in router.inference.Generate(request)]
    assert events[0].started.endpoint == worker.address
    second.cancel()
    assert await router.endpoints_when(lambda listed: not listed) == []


async def test_a_running_stream_survives_the_end_of_its_registration(
    start_worker: StartWorker, start_router: StartRouter
) -> None:
    go_on = asyncio.Event()

    async def hold(
        request: inference_pb2.GenerateRequest, _context: RpcContext
    ) -> AsyncIterator[inference_pb2.GenerateResponse]:
        yield inference_pb2.GenerateResponse(started=inference_pb2.Started(model=request.model))
        yield inference_pb2.GenerateResponse(delta=inference_pb2.Delta(text="a", token_ids=[1]))
        await go_on.wait()
        yield inference_pb2.GenerateResponse(
            finished=inference_pb2.Finished(finish_reason=inference_pb2.FINISH_REASON_STOP)
        )

    worker, router = await start_worker(script=hold), await start_router()
    registration = router.admin.RegisterEndpoint(pb.RegisterEndpointRequest(address=worker.address))
    await registration.read()
    await router.endpoints_when(lambda listed: len(listed) == 1 and listed[0].connected)
    request = inference_pb2.GenerateRequest(model="m", text="hi")
    call = router.inference.Generate(request)
    events = aiter(call)
    assert (await anext(events)).HasField("started")
    registration.cancel()
    await router.endpoints_when(lambda listed: not listed)
    go_on.set()
    assert [event.WhichOneof("event") async for event in events] == ["delta", "finished"]


async def test_a_bad_registration_is_refused_with_its_field(start_router: StartRouter) -> None:
    router = await start_router()
    call = router.admin.RegisterEndpoint(pb.RegisterEndpointRequest(address="0.0.0.0:1"))
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call.read()
    error = from_rpc_error(caught.value)
    assert isinstance(error, InvalidArgument)
    assert set(error.fields) == {"address"}


async def test_endpoints_say_where_they_came_from(
    start_worker: StartWorker, start_router: StartRouter, tmp_path: Path
) -> None:
    named, filed = await start_worker(), await start_worker()
    path = tmp_path / "workers"
    path.write_text(f"{filed.address}  # ours\n")
    router = await start_router(named, workers_file=str(path))
    listed = await router.endpoints_when(lambda listed: len(listed) == 2 and all(e.connected for e in listed))
    assert {e.address: e.source for e in listed} == {named.address: "static", filed.address: "file"}
    path.write_text("")
    (left,) = await router.endpoints_when(lambda listed: len(listed) == 1)
    assert left.address == named.address
