"""Routers side by side that know each other: each shows and manages the whole mesh, and holds its share of queues."""

import asyncio
import signal
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import grpc
import pytest
import pytest_asyncio

from infermesh.admin.v1 import admin_pb2, admin_pb2_grpc
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc as pb_grpc
from infermesh.mesh.v1 import mesh_pb2, mesh_pb2_grpc
from infermesh_router.testing.router import RunningRouter, running_router
from infermesh_worker.testing.processes import WorkerProcess, simulated_worker_process
from tests.integration.conditions import all_busy, ready

pytestmark = pytest.mark.asyncio(loop_scope="module")

SECRET = "let-me-in" * 4


@dataclass(frozen=True)
class Pair:
    """Two routers before the same two workers."""

    routers: tuple[RunningRouter, RunningRouter]
    workers: tuple[str, str]
    processes: tuple[WorkerProcess, WorkerProcess]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def mesh() -> AsyncIterator[Pair]:
    """The pair that most tests share."""
    async with pair() as made:
        yield made


@asynccontextmanager
async def pair(*, sequences: int = 64, **settings: object) -> AsyncIterator[Pair]:
    """`sequences`: how many each worker runs at a time."""
    with TemporaryDirectory(prefix="infermesh-") as folder:
        admins = [f"unix:{folder}/{name}.sock" for name in ("one", "two")]
        key = Path(folder) / "key"
        key.write_text(SECRET)
        key.chmod(0o600)
        simulated = {"sim_itl_s": 0.02, "max_sequences": sequences, "max_waiting": 0}
        common: dict[str, Any] = {"router_count": 2, "manage_key_file": str(key), **settings}
        async with (
            simulated_worker_process(**simulated) as first,
            simulated_worker_process(**simulated) as second,
        ):
            workers = (await first.ready(), await second.ready())
            async with (
                running_router(*workers, admin_listen=admins[0], siblings=(admins[1],), **common) as one,
                running_router(*workers, admin_listen=admins[1], siblings=(admins[0],), **common) as two,
            ):
                for router in (one, two):
                    await router.endpoints_when(ready(2))
                made = Pair((one, two), workers, (first, second))
                await introduce(*made.routers)
                await introduce(*reversed(made.routers))
                yield made


async def introduce(asking: RunningRouter, asked: RunningRouter) -> None:
    """Waits until one router has connected to the other, which it tried before that one listened."""
    request_id = f"from {asked.address}"
    await generate(asked, ask(), request_id=request_id)
    get = mesh_pb2_grpc.MeshServiceStub(asking.channel).GetReceipt
    async with asyncio.timeout(20):
        while True:
            try:
                await get(mesh_pb2.GetReceiptRequest(request_id=request_id))
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.05)
            else:
                return


def ask(tokens: int = 4, **fields: object) -> pb.GenerateRequest:
    stop = pb.StopConditions(max_tokens=tokens, ignore_eos=True)
    return pb.GenerateRequest(model="simulated", text="Hello", seed=1, stop=stop, **fields)  # type: ignore[arg-type]


async def generate(
    router: RunningRouter, request: pb.GenerateRequest, request_id: str = "", begun: asyncio.Event | None = None
) -> list[pb.GenerateResponse]:
    metadata = (("x-request-id", request_id),) if request_id else ()
    events = []
    async for event in pb_grpc.InferenceServiceStub(router.channel).Generate(request, metadata=metadata):
        events.append(event)
        if begun is not None and event.HasField("delta"):
            begun.set()
    return events


async def test_either_router_knows_what_became_of_a_request(mesh: Pair) -> None:
    for name, router in zip(("first", "second"), mesh.routers, strict=True):
        await generate(router, ask(), request_id=name)
    for router in mesh.routers:
        stub = mesh_pb2_grpc.MeshServiceStub(router.channel)
        for name in ("first", "second"):
            receipt = await stub.GetReceipt(mesh_pb2.GetReceiptRequest(request_id=name))
            assert (receipt.request_id, receipt.completion_tokens, receipt.status) == (name, 4, "OK")
        listed = await stub.ListReceipts(mesh_pb2.ListReceiptsRequest(limit=2))
        assert [receipt.request_id for receipt in listed.receipts] == ["second", "first"]
        newest = await stub.ListReceipts(mesh_pb2.ListReceiptsRequest(limit=1))
        assert [receipt.request_id for receipt in newest.receipts] == ["second"]
        with pytest.raises(grpc.aio.AioRpcError, match="No receipt"):
            await stub.GetReceipt(mesh_pb2.GetReceiptRequest(request_id="third"))


async def test_either_router_tells_what_happens_at_both(mesh: Pair) -> None:
    stub = mesh_pb2_grpc.MeshServiceStub(mesh.routers[0].channel)
    await generate(mesh.routers[1], ask(), request_id="kept")
    watch = stub.WatchEvents(mesh_pb2.WatchEventsRequest())
    seen, told = b"", asyncio.Event()

    async def listen() -> None:
        nonlocal seen
        async for body in watch:
            seen += body.data
            told.set()

    async def until(text: bytes) -> None:
        async with asyncio.timeout(20):
            while text not in seen:
                told.clear()
                await told.wait()

    listening = asyncio.create_task(listen())
    await until(b'"kept"')
    for name, router in zip(("here", "there"), mesh.routers, strict=True):
        await generate(router, ask(), request_id=name)
        await until(f'"{name}"'.encode())
    listening.cancel()
    watch.cancel()
    assert [seen.count(f'"{name}"'.encode()) for name in ("kept", "here", "there")] == [1, 1, 1]
    assert b"event: snapshot" in seen


async def test_a_listener_goes_on_at_another_router(mesh: Pair) -> None:
    """Where it was with the events of both, so that it gets none twice."""
    for name in ("had here", "had there"):
        await generate(mesh.routers[name == "had there"], ask(), request_id=name)
    seen, last_id = await events_until(mesh.routers[0], (b'"had here"', b'"had there"'))
    for router in mesh.routers:
        await generate(router, ask(), request_id=f"new {router.address}")
    new = [f'"new {router.address}"'.encode() for router in mesh.routers]
    seen, _ = await events_until(mesh.routers[1], new, last_id)
    assert [seen.count(each) for each in (b'"had here"', b'"had there"', *new)] == [0, 0, 1, 1]


async def events_until(router: RunningRouter, texts: Sequence[bytes], last_id: str = "") -> tuple[bytes, str]:
    """The events until all texts have come and a snapshot after them, and the id of the last one."""
    metadata = (("last-event-id", last_id),) if last_id else ()
    watch = mesh_pb2_grpc.MeshServiceStub(router.channel).WatchEvents(mesh_pb2.WatchEventsRequest(), metadata=metadata)
    seen = b""
    try:
        async with asyncio.timeout(20):
            while not all(text in seen for text in texts):
                seen += (await watch.read()).data
    finally:
        watch.cancel()
    return seen, seen.rpartition(b"\nid: ")[2].partition(b"\n")[0].decode()


async def test_either_router_drains_an_endpoint_of_the_streams_of_both(mesh: Pair) -> None:
    begun = [asyncio.Event() for _ in range(8)]
    streams = [asyncio.create_task(generate(mesh.routers[i % 2], ask(200), begun=each)) for i, each in enumerate(begun)]
    await asyncio.gather(*(each.wait() for each in begun))
    counts = await in_flight(mesh.routers[0])
    assert sum(counts.values()) == 8
    address = max(counts, key=lambda each: counts[each])
    stub = mesh_pb2_grpc.MeshServiceStub(mesh.routers[1].channel)
    request = admin_pb2.DrainEndpointRequest(address=address, move_after_s=0)
    async with asyncio.timeout(3):  # streams take at least 4 s
        answer = await stub.DrainEndpoint(request, metadata=(("x-infermesh-manage-key", SECRET),))
    assert answer.moved == counts[address]
    for events in await asyncio.gather(*streams):
        assert sum(len(event.delta.token_ids) for event in events) == 200
    assert (await generate(mesh.routers[0], ask()))[0].started.endpoint != address
    resume = admin_pb2.ResumeEndpointRequest(address=address)
    await stub.ResumeEndpoint(resume, metadata=(("x-infermesh-manage-key", SECRET),))
    await mesh.routers[0].endpoints_when(ready(2))


async def in_flight(router: RunningRouter) -> dict[str, int]:
    """How many requests of both routers each endpoint has."""
    stub = admin_pb2_grpc.AdminServiceStub(router.admin_channel)
    listed = await stub.ListEndpoints(admin_pb2.ListEndpointsRequest())
    return {endpoint.address: endpoint.in_flight for endpoint in listed.endpoints}


async def test_each_router_holds_its_share_of_a_queue(tmp_path: Path) -> None:
    rules = tmp_path / "mesh.yaml"
    rules.write_text("admission: {max_waiting: 3}\n")
    async with pair(mesh_config=str(rules), sequences=1) as mesh:
        begun = [asyncio.Event() for _ in mesh.workers]
        running = [asyncio.create_task(generate(mesh.routers[0], ask(2000), begun=each)) for each in begun]
        await asyncio.gather(*(each.wait() for each in begun))
        for router in mesh.routers:
            await router.endpoints_when(all_busy)
        waiting = [asyncio.create_task(generate(router, ask(1))) for router in mesh.routers for _ in range(4)]
        for details in await first_failures(waiting, 4):
            assert "(2 waiting)" in details  # half of 3, rounded up
        stub = mesh_pb2_grpc.MeshServiceStub(mesh.routers[0].channel)
        (queue,) = (await stub.ListQueues(mesh_pb2.ListQueuesRequest())).queues
        assert (queue.waiting, queue.limit) == (4, 3)
        for task in (*running, *waiting):
            task.cancel()
        await asyncio.gather(*running, *waiting, return_exceptions=True)


async def first_failures(tasks: Sequence["asyncio.Task[Any]"], count: int) -> list[str]:
    """Waits until so many of the calls have failed; returns what their statuses say."""
    failures: list[str] = []
    async with asyncio.timeout(20):
        for ended in asyncio.as_completed(tasks):
            with pytest.raises(grpc.aio.AioRpcError) as failure:
                await ended
            failures.append(failure.value.details() or "")
            if len(failures) == count:
                return failures
    return failures


async def test_sessions_stay_with_their_endpoint_whichever_router_they_reach(mesh: Pair) -> None:
    for session in map(str, range(8)):
        await generate(mesh.routers[0], ask(1))  # so that the routers do not take turns in step
        served = [
            (await generate(mesh.routers[turn % 2], ask(1, session_id=session)))[0].started.endpoint
            for turn in range(4)
        ]
        assert len(set(served)) == 1


async def test_a_router_that_is_gone_is_left_out(mesh: Pair) -> None:
    other = f"{mesh.routers[1].admin_address}.gone"
    async with running_router(*mesh.workers, siblings=(other,), router_count=2) as alone:
        await alone.endpoints_when(ready(2))
        await generate(alone, ask(), request_id="mine")
        stub = mesh_pb2_grpc.MeshServiceStub(alone.channel)
        assert (await stub.GetReceipt(mesh_pb2.GetReceiptRequest(request_id="mine"))).status == "OK"
        drain = admin_pb2_grpc.AdminServiceStub(alone.admin_channel).DrainEndpoint
        assert (await drain(admin_pb2.DrainEndpointRequest(address=mesh.workers[0]))).moved == 0


async def test_what_one_router_unloads_the_other_does_not_load_again(mesh: Pair) -> None:
    one, two = (admin_pb2_grpc.EndpointServiceStub(router.admin_channel) for router in mesh.routers)
    load = admin_pb2.LoadModelRequest(model="simulated", pinned=True, device="cpu")
    await asyncio.gather(one.LoadModel(load), two.LoadModel(load))
    for process in mesh.processes:  # both routers want it there when they come back
        await process.stop(signal.SIGKILL)
    for router in mesh.routers:
        await router.endpoints_when(lambda listed: not any(endpoint.connected for endpoint in listed))
    unload = admin_pb2.UnloadModelRequest(model="simulated")
    await one.UnloadModel(unload)
    with pytest.raises(grpc.aio.AioRpcError):  # the other one no longer wants it either
        await two.UnloadModel(unload)
