"""What a router asks the others for: one that hangs holds nobody up twice, and is told of once."""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import grpc
import pytest

from infermesh.admin.v1 import admin_pb2 as pb
from infermesh.admin.v1 import admin_pb2_grpc as pb_grpc
from infermesh_router.siblings import siblings
from infermesh_router.siblings.siblings import REST_S, Siblings
from infermesh_router.testing.admission import Clock
from infermesh_runtime.testing.serving import plain_server


@dataclass
class Sibling(pb_grpc.AdminServiceServicer):
    """Another router, which hangs until `may_answer` is set."""

    may_answer: asyncio.Event = field(default_factory=asyncio.Event)
    asked: int = 0

    async def ListEndpoints(
        self, request: pb.ListEndpointsRequest, context: grpc.aio.ServicerContext
    ) -> pb.ListEndpointsResponse:
        self.asked += 1
        await self.may_answer.wait()
        return pb.ListEndpointsResponse(endpoints=[pb.Endpoint(address="w:1")])


@pytest.fixture
def address(tmp_path: Path) -> str:
    return f"unix:{tmp_path}/s.sock"


@pytest.fixture
async def sibling(address: str) -> AsyncIterator[Sibling]:
    servicer = Sibling()
    async with plain_server(partial(pb_grpc.add_AdminServiceServicer_to_server, servicer), address=address):
        yield servicer


async def test_one_that_hangs_holds_views_up_once_and_is_told_of_once(
    address: str, sibling: Sibling, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(siblings, "ANSWER_TIMEOUT_S", 0.05)
    caplog.set_level(logging.INFO, siblings.__name__)
    clock = Clock()
    others = Siblings([address], clock=clock)
    for _ in range(4):  # views, one after the other
        assert await others.listings() == []
    assert sibling.asked == 1
    clock.now_s += REST_S
    assert await others.listings() == []
    assert sibling.asked == 2
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    sibling.may_answer.set()
    clock.now_s += REST_S
    monkeypatch.setattr(siblings, "ANSWER_TIMEOUT_S", 10)
    assert len(await others.listings()) == len(await others.listings()) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    await others.close()
