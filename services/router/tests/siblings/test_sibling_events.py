"""The events of routers that come and go, in one stream: what each has kept comes once."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import grpc
import pytest
from google.api.httpbody_pb2 import HttpBody

from infermesh.mesh.v1 import mesh_pb2 as pb
from infermesh.mesh.v1 import mesh_pb2_grpc as pb_grpc
from infermesh_router.siblings import siblings as module
from infermesh_router.siblings.sibling_calls import told_viewer
from infermesh_router.siblings.siblings import Siblings
from infermesh_runtime.errors import ResourceExhausted
from infermesh_runtime.testing.serving import plain_server


@dataclass
class Sibling(pb_grpc.MeshServiceServicer):
    """Another router, which has kept events, and cuts a stream when it is told to."""

    cut: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def WatchEvents(
        self, request: pb.WatchEventsRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[HttpBody]:
        told = told_viewer(context)
        try:
            yield HttpBody(data=b"kept and new" if told["kept"] else b"new")
            await self.cut.wait()
            self.cut.clear()
        finally:
            self.ended.set()


async def silent() -> AsyncGenerator[bytes, None]:
    """Events of this router's own, which has none."""
    await asyncio.Event().wait()
    yield b""


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"unix:{tmp_path}/s.sock"


@pytest.fixture
async def sibling(address: str) -> AsyncIterator[Sibling]:
    servicer = Sibling()
    async with plain_server(partial(pb_grpc.add_MeshServiceServicer_to_server, servicer), address=address):
        yield servicer


async def test_one_that_comes_back_sends_no_kept_event_again(address: str, sibling: Sibling) -> None:
    """Another one at its address does, and for another listener all do."""
    others = Siblings(named=True)
    others.set_named({address: "one"})
    async with aclosing(others.events(silent())) as events, asyncio.timeout(10):
        assert await anext(events) == b"kept and new"
        for instance, block in (("one", b"new"), ("other", b"kept and new"), ("one", b"new")):
            coming = asyncio.ensure_future(anext(events))
            sibling.ended.clear()
            others.set_named({})
            await sibling.ended.wait()
            others.set_named({address: instance})
            assert await coming == block
        async with aclosing(others.events(silent())) as more:
            assert await anext(more) == b"kept and new"
    await others.close()


async def test_one_that_is_replaced_at_its_address_sends_what_it_has_kept(
    address: str, sibling: Sibling, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_RECONNECT_S", 0.01)
    others = Siblings(named=True)
    others.set_named({address: "one"})
    async with aclosing(others.events(silent())) as events, asyncio.timeout(10):
        assert await anext(events) == b"kept and new"
        sibling.cut.set()
        assert await anext(events) == b"new"
        others.set_named({address: "other"})
        sibling.cut.set()
        assert await anext(events) == b"kept and new"
    await others.close()


async def test_a_routers_own_events_are_among_them_to_the_end(address: str, sibling: Sibling) -> None:
    """They go on while others come and go, and are closed with the stream; what they raise, it raises."""
    queue: asyncio.Queue[bytes] = asyncio.Queue()
    closed = asyncio.Event()

    async def own() -> AsyncGenerator[bytes, None]:
        try:
            while (block := await queue.get()) != b"too many":
                yield block
            raise ResourceExhausted("Too many listen.")
        finally:
            closed.set()

    others = Siblings(named=True)
    async with aclosing(others.events(own())) as events, asyncio.timeout(10):
        for block, routers in ((b"alone", {address: "one"}), (b"with another", {}), (b"alone again", {})):
            queue.put_nowait(block)
            assert await anext(events) == block
            others.set_named(routers)
            if routers:
                assert await anext(events) == b"kept and new"
        queue.put_nowait(b"too many")
        with pytest.raises(ResourceExhausted):
            await anext(events)
        assert closed.is_set()
    closed.clear()
    async with aclosing(others.events(own())) as events:
        queue.put_nowait(b"once")
        assert await anext(events) == b"once"
        assert not closed.is_set()
    assert closed.is_set()
    await others.close()
