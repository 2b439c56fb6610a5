"""MeshService of a running router: what callers see, with keys and without, and who may manage the mesh."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from infermesh.admin.v1 import admin_pb2 as admin
from infermesh.inference.v1 import inference_pb2
from infermesh.mesh.v1 import mesh_pb2 as pb
from infermesh_router.mesh.owner import Owner
from infermesh_router.mesh.servicer import MeshServicer
from infermesh_router.testing.keyed import embed, generate, refusal
from infermesh_router.testing.keys import bearer, write_keys_of
from infermesh_router.testing.router import RunningRouter, StartRouter, StartWorker, running_router
from infermesh_router.testing.tensors import TensorWorker
from infermesh_runtime.errors import NotFound, Unauthenticated


@pytest.fixture
async def keyed(start_worker: StartWorker, start_router: StartRouter, tmp_path: Path) -> RunningRouter:
    path = write_keys_of(tmp_path / "keys.json", a={}, b={"models": ["other"]}, boss={"admin": True})
    return await start_router(await start_worker(models=("m", "other")), keys_file=path)


async def receipt_when_kept(router: RunningRouter, request_id: str, metadata: Any = ()) -> pb.Receipt:
    """The receipt, which is kept at about the time at which the client sees the end."""
    async with asyncio.timeout(10):
        while True:
            listed = await router.mesh.ListReceipts(pb.ListReceiptsRequest(), metadata=metadata)
            if any(each.request_id == request_id for each in listed.receipts):
                found: pb.Receipt = await router.mesh.GetReceipt(
                    pb.GetReceiptRequest(request_id=request_id), metadata=metadata
                )
                return found


async def read_all(events: Any) -> None:
    while await events.read() is not grpc.aio.EOF:
        pass


async def test_endpoints_are_flat_and_named(start_worker: StartWorker, start_router: StartRouter) -> None:
    workers = [await start_worker(), await start_worker(), await start_worker(device=inference_pb2.DEVICE_KIND_CUDA)]
    router = await start_router(*workers)
    listed = await router.mesh.ListEndpoints(pb.ListEndpointsRequest())
    assert sorted(each.name for each in listed.endpoints) == ["cpu:0", "cpu:1", "cuda"]
    for each in listed.endpoints:
        assert (each.state, each.breaker, each.device.kind) == ("ready", "closed", each.name.partition(":")[0])
        assert [(model.name, model.kind, model.state) for model in each.models] == [("m", "generate", "ready")]


async def test_receipts_of_each_kind(start_worker: StartWorker, start_router: StartRouter) -> None:
    worker = await start_worker()
    router = await start_router(worker)
    chat_id = (await generate(router, text="secret", sampling=inference_pb2.SamplingParams(top_k=3)))["x-request-id"]
    receipt = await receipt_when_kept(router, chat_id)
    assert (receipt.call, receipt.status, receipt.endpoint) == ("Generate", "OK", worker.address)
    assert (receipt.reason, receipt.prompt_tokens, receipt.completion_tokens) == ("only_endpoint", 3, 2)
    assert 0 < receipt.first_token_ms <= receipt.total_ms
    assert receipt.seconds > 0
    assert "secret" not in str(receipt)
    assert "Hello" not in str(receipt)
    embed_id = (await embed(router, texts=["a", "b"]))["x-request-id"]
    receipt = await receipt_when_kept(router, embed_id)
    assert (receipt.call, receipt.endpoint, receipt.prompt_tokens) == ("Embed", worker.address, 2)


async def test_a_refused_request_has_a_receipt_too(start_worker: StartWorker, start_router: StartRouter) -> None:
    router = await start_router(await start_worker())
    error, trailing = await refusal(generate(router, model="none"))
    receipt = await receipt_when_kept(router, trailing["x-request-id"])
    assert (receipt.status, receipt.error, receipt.endpoint) == ("NOT_FOUND", error.reason, "")


async def test_callers_see_their_own_receipts(keyed: RunningRouter) -> None:
    mine = (await generate(keyed, bearer("a")))["x-request-id"]
    assert (await receipt_when_kept(keyed, mine, bearer("a"))).request_id == mine
    assert (await receipt_when_kept(keyed, mine, bearer("boss"))).request_id == mine
    asked = pb.GetReceiptRequest(request_id=mine)
    error, _ = await refusal(keyed.mesh.GetReceipt(asked, metadata=bearer("b")))
    assert isinstance(error, NotFound)
    listed = await keyed.mesh.ListReceipts(pb.ListReceiptsRequest(), metadata=bearer("b"))
    assert not listed.receipts


async def test_a_key_hides_models(keyed: RunningRouter) -> None:
    listed = await keyed.mesh.ListEndpoints(pb.ListEndpointsRequest(), metadata=bearer("b"))
    assert [model.name for model in listed.endpoints[0].models] == ["other"]
    assert not listed.may_manage


@pytest.mark.parametrize("call", ["ListEndpoints", "ListQueues", "ListReceipts", "GetReceipt", "DrainEndpoint"])
async def test_without_a_key_nothing_is_shown(keyed: RunningRouter, call: str) -> None:
    package = admin if call == "DrainEndpoint" else pb
    request = getattr(package, f"{call}Request")()
    error, _ = await refusal(getattr(keyed.mesh, call)(request))
    assert isinstance(error, Unauthenticated)


async def test_events_need_a_key_and_the_page_does_not(keyed: RunningRouter) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await keyed.mesh.WatchEvents(pb.WatchEventsRequest()).read()
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    events = keyed.mesh.WatchEvents(pb.WatchEventsRequest(), metadata=bearer("a"))
    assert b"event: snapshot" in (await events.read()).data
    events.cancel()
    page = await keyed.mesh.GetPage(pb.GetPageRequest(), metadata=(("accept", "text/html,*/*"),))
    assert page.content_type.startswith("text/html")
    assert (await keyed.mesh.GetPage(pb.GetPageRequest())).data == b"infermesh is running\n"


async def test_a_listener_whose_key_is_revoked_hears_no_more(keyed: RunningRouter, tmp_path: Path) -> None:
    events = keyed.mesh.WatchEvents(pb.WatchEventsRequest(), metadata=bearer("a"))
    await events.read()
    write_keys_of(tmp_path / "keys.json", boss={"admin": True})
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await asyncio.wait_for(read_all(events), 20)
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_a_listener_does_not_hold_up_the_routers_stop(start_worker: StartWorker) -> None:
    async with AsyncExitStack() as stack:
        router = await stack.enter_async_context(running_router((await start_worker()).address, drain_s=60.0))
        events = router.mesh.WatchEvents(pb.WatchEventsRequest())
        await events.read()
        async with asyncio.timeout(10):
            await stack.aclose()


async def test_tensors_have_receipts_and_say_who_failed_first(start_router: StartRouter) -> None:
    async with AsyncExitStack() as stack:
        worker = TensorWorker(failures=1)
        await worker.start()
        stack.push_async_callback(worker.stop)
        router = await start_router(worker)
        call = router.inference.Infer(inference_pb2.InferRequest(model="echo"))
        await call
        receipt = await receipt_when_kept(router, dict(await call.initial_metadata())["x-request-id"])
        assert (receipt.call, receipt.model, receipt.status) == ("Infer", "echo", "OK")
        assert [(each.endpoint, each.reason) for each in receipt.retries] == [(worker.address, "STREAM_CUT")]


class _Gone:
    """The context of a call whose client leaves at once."""

    def invocation_metadata(self) -> tuple[()]:
        return ()

    def peer(self) -> str:
        return "unix:"

    async def send_initial_metadata(self, _metadata: object) -> None:
        """Sends nothing."""

    async def write(self, _message: object) -> None:
        raise asyncio.CancelledError


async def test_a_listener_who_leaves_gives_its_place_back() -> None:
    left: list[str] = []

    class Fed:
        async def follow(self, _viewer: object, _last_id: str) -> AsyncIterator[bytes]:
            try:
                yield b"a"
                yield b"b"
            finally:
                left.append("closed")

    class Open:
        def identify(self, _context: object) -> None:
            """Nobody needs a key."""

    nothing: Any = None
    servicer = MeshServicer(nothing, cast("Any", Fed()), nothing, nothing, access=cast("Any", Open()), owner=Owner(""))
    with pytest.raises(asyncio.CancelledError):
        await servicer.WatchEvents(pb.WatchEventsRequest(), cast("Any", _Gone()))
    assert left == ["closed"]
