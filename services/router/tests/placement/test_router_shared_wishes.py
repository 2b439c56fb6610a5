"""Wishes of routers side by side: what one moves or unloads, no other loads again."""

import asyncio

import pytest

from infermesh.admin.v1 import admin_pb2
from infermesh_router.placement.wishes import MOVE_AFTER_S
from infermesh_router.testing.loading.loading_worker import LoadingWorker
from infermesh_router.testing.loading.wishes import PINNED, two_routers
from infermesh_runtime.errors import ModelNotFound


async def test_a_model_that_one_router_moved_stays_away_from_the_endpoint_for_all() -> None:
    worker, other = LoadingWorker(), LoadingWorker(available=())
    async with two_routers(worker, other) as (one, two):
        await one.commands.load(PINNED)
        await two.until(lambda: "m" in two.fleet.get(worker.address).snapshot.ready_models)
        await two.looks()
        other.available = ("m",)
        other.tell()
        await worker.stop()
        for running in (one, two):
            await running.connected(worker, to=False)
            await running.looks()
        one.pass_time(MOVE_AFTER_S)
        await one.wait_for_load(other)
        async with asyncio.timeout(10):
            while worker.address in two.keeper.wishes.addresses:  # noqa: ASYNC110 - nothing tells of what is forgotten
                await asyncio.sleep(0.002)
        await worker.restart()
        await two.connected(worker)
        await two.looks()
        assert not worker.loads
        assert [wish.address for wish in two.keeper.wishes] == [other.address]


async def test_what_only_another_router_wants_can_be_unloaded() -> None:
    worker = LoadingWorker()
    async with two_routers(worker) as (one, two):
        await two.commands.load(admin_pb2.LoadModelRequest(model="m"))
        await two.looks()
        await worker.stop()
        for running in (one, two):
            await running.connected(worker, to=False)
        await one.commands.unload(admin_pb2.UnloadModelRequest(model="m"))
        assert not list(two.keeper.wishes)
        with pytest.raises(ModelNotFound):
            await one.commands.unload(admin_pb2.UnloadModelRequest(model="m"))
