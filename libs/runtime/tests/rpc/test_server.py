"""The order in which a server starts, drains and stops."""

import asyncio
import gc
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc
from infermesh_runtime.errors import Code, FailedPrecondition
from infermesh_runtime.rpc.server import GC_THRESHOLD, Server, ServerPart
from infermesh_runtime.rpc.status import from_rpc_error

SERVICE = "infermesh.inference.v1.InferenceService"
States = health_pb2.HealthCheckResponse


class Servicer(inference_pb2_grpc.InferenceServiceServicer):
    """Generate answers once and ends when `release` is set; WatchHealth never ends."""

    def __init__(self) -> None:
        self.release = asyncio.Event()

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> AsyncIterator[pb.GenerateResponse]:
        yield pb.GenerateResponse(delta=pb.Delta(text="a"))
        await self.release.wait()
        yield pb.GenerateResponse(delta=pb.Delta(text="b"))

    async def WatchHealth(self, request: pb.WatchHealthRequest, context: Any) -> AsyncIterator[pb.WatchHealthResponse]:
        yield pb.WatchHealthResponse()
        await asyncio.Event().wait()


class Diary:
    """Makes parts that record what happens to them."""

    def __init__(self) -> None:
        self.entries: list[str] = []

    def part(self, name: str, *, failing: str = "") -> ServerPart:
        def write(what: str) -> Callable[[], Awaitable[None]]:
            async def note() -> None:
                self.entries.append(f"{what} {name}")
                if what == failing:
                    raise RuntimeError(name)

            return note

        return ServerPart(name=name, start=write("start"), drain=write("drain"), close=write("close"))


def build(drain_s: float = 5, listen: str = "127.0.0.1:0") -> tuple[Server, Servicer]:
    server, servicer = Server(listen=listen, drain_s=drain_s), Servicer()
    inference_pb2_grpc.add_InferenceServiceServicer_to_server(servicer, server)
    return server, servicer


async def test_parts_start_in_order_drain_and_close_in_reverse() -> None:
    server, _ = build()
    diary = Diary()
    for name in "abc":
        server.add_part(diary.part(name))
    await server.start()
    await server.stop()
    assert [entry.split()[0] for entry in diary.entries] == ["start"] * 3 + ["drain"] * 3 + ["close"] * 3
    assert "".join(entry[-1] for entry in diary.entries) == "abcabccba"


async def test_a_part_that_fails_to_start_closes_the_others() -> None:
    server, _ = build()
    diary = Diary()
    server.add_part(diary.part("a"))
    server.add_part(diary.part("b", failing="start"))
    server.add_part(diary.part("c"))
    with pytest.raises(RuntimeError, match="b"):
        await server.start()
    assert diary.entries == ["start a", "start b", "close a"]


@pytest.mark.parametrize("failing", ["drain", "close"])
async def test_a_part_that_fails_at_the_stop_does_not_keep_the_others(
    caplog: pytest.LogCaptureFixture, failing: str
) -> None:
    server, _ = build()
    diary = Diary()
    server.add_part(diary.part("a"))
    server.add_part(diary.part("b", failing=failing))
    await server.start()
    await server.stop()
    assert diary.entries[-2:] == ["close b", "close a"]
    assert any(record.exc_info for record in caplog.records)


async def test_probes_find_it_alive_whether_or_not_it_serves() -> None:
    server, _ = build()
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        check = health_pb2_grpc.HealthStub(channel).Check
        assert (await check(health_pb2.HealthCheckRequest(service="live"))).status == States.SERVING
        await server.set_serving(False)
        assert (await check(health_pb2.HealthCheckRequest(service="live"))).status == States.SERVING
    await server.stop()


async def test_health_serves_only_when_told_and_by_service() -> None:
    server, _ = build()
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = health_pb2_grpc.HealthStub(channel)

        async def states() -> list[int]:
            checks = [stub.Check(health_pb2.HealthCheckRequest(service=name)) for name in ("", SERVICE)]
            return [reply.status for reply in await asyncio.gather(*checks)]

        assert await states() == [States.NOT_SERVING] * 2
        await server.set_serving(True)
        assert await states() == [States.SERVING] * 2
        await server.set_serving(False, SERVICE)
        assert await states() == [States.SERVING, States.NOT_SERVING]
        with pytest.raises(grpc.aio.AioRpcError) as unknown:
            await stub.Check(health_pb2.HealthCheckRequest(service="no.Such"))
        assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    await server.stop()


async def test_watchers_see_the_stop_before_the_drain_ends() -> None:
    server, _ = build()
    draining, drained = asyncio.Event(), asyncio.Event()

    async def drain() -> None:
        draining.set()
        await drained.wait()

    server.add_part(ServerPart(name="engine", drain=drain))
    port = await server.start()
    await server.set_serving(True)
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == States.SERVING
        stopping = asyncio.ensure_future(server.stop())
        await draining.wait()
        assert (await watch.read()).status == States.NOT_SERVING
        drained.set()
        await stopping


async def test_reflection_lists_the_services() -> None:
    server, _ = build()
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = reflection_pb2_grpc.ServerReflectionStub(channel).ServerReflectionInfo()
        await call.write(reflection_pb2.ServerReflectionRequest(list_services=""))
        names = {service.name for service in (await call.read()).list_services_response.service}
        await call.write(reflection_pb2.ServerReflectionRequest(file_containing_symbol=SERVICE))
        assert (await call.read()).file_descriptor_response.file_descriptor_proto
        await call.done_writing()
    await server.stop()
    assert {SERVICE, "grpc.health.v1.Health"} <= names


async def test_a_running_stream_ends_whole_before_the_server_stops() -> None:
    server, servicer = build()
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = inference_pb2_grpc.InferenceServiceStub(channel).Generate(pb.GenerateRequest())
        assert (await call.read()).delta.text == "a"
        stopping = asyncio.ensure_future(server.stop())
        servicer.release.set()
        assert (await call.read()).delta.text == "b"
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK
        await stopping


async def test_a_stream_that_does_not_end_is_cut_after_drain_s(caplog: pytest.LogCaptureFixture) -> None:
    server, _ = build(drain_s=0.1)
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = inference_pb2_grpc.InferenceServiceStub(channel).Generate(pb.GenerateRequest())
        await call.read()
        await asyncio.wait_for(server.stop(), 5)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await call.read()
        error = from_rpc_error(caught.value)
        assert (error.code, error.reason, error.retry_after_s) == (Code.UNAVAILABLE, "SERVER_STOPPED", 1)
    assert [vars(r)["in_flight"] for r in caplog.records if r.levelno == logging.WARNING] == [1]


async def test_endless_streams_do_not_hold_up_the_stop() -> None:
    server, _ = build(drain_s=60)
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = inference_pb2_grpc.InferenceServiceStub(channel).WatchHealth(pb.WatchHealthRequest())
        await call.read()
        await asyncio.wait_for(server.stop(), 5)


async def test_a_drain_that_hangs_is_left_after_drain_s() -> None:
    server, _ = build(drain_s=0.1)
    diary = Diary()
    server.add_part(diary.part("a"))

    async def hang() -> None:
        await asyncio.Event().wait()

    server.add_part(ServerPart(name="stuck", drain=hang))
    await server.start()
    await asyncio.wait_for(server.stop(), 5)
    assert diary.entries[-1] == "close a"


@pytest.mark.parametrize("listen", ["127.0.0.1:{port}", "0.0.0.0:{port}", "no.such.host.invalid:1"])
async def test_an_address_that_cannot_be_bound_is_one_clear_error(
    listen: str, capfd: pytest.CaptureFixture[str]
) -> None:
    first, _ = build()
    listen = listen.format(port=await first.start())
    second, _ = build(listen=listen)
    diary = Diary()
    second.add_part(diary.part("a"))
    with pytest.raises(FailedPrecondition, match=f"cannot listen on {listen}: [A-Z]"):
        await second.start()
    assert diary.entries == ["start a", "close a"]
    await first.stop()
    assert not capfd.readouterr().err


async def test_a_service_of_bare_handlers() -> None:
    async def relay(request: bytes, context: Any) -> None:
        await context.write(request + b"!")

    server = Server(listen="127.0.0.1:0", drain_s=1)
    server.add_service("a.Relay", {"Pass": grpc.unary_stream_rpc_method_handler(relay)})
    port = await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        assert [m async for m in channel.unary_stream("/a.Relay/Pass")(b"x")] == [b"x!"]
    await server.stop()
    assert server.services == ("a.Relay",)


async def test_garbage_is_not_collected_in_each_request() -> None:
    before = gc.get_threshold()
    server = Server(listen="127.0.0.1:0", drain_s=1)
    listening = asyncio.Event()

    async def note() -> None:
        listening.set()

    server.add_part(ServerPart(name="note", listening=note))
    serving = asyncio.create_task(server.serve_until_stopped())
    try:
        async with asyncio.timeout(20):
            await listening.wait()
            server.request_stop()
            await serving
        assert gc.isenabled()
        assert gc.get_threshold() == GC_THRESHOLD
    finally:
        gc.set_threshold(*before)
        gc.unfreeze()
