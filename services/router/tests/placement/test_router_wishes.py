"""What is wanted of a model outlives the endpoint that has it: it is loaded again after a restart, until it ends."""

import itertools

import pytest

from infermesh.admin.v1 import admin_pb2
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.placement.wishes import MOVE_AFTER_S
from infermesh_router.policy.snapshot import Wanted
from infermesh_router.testing.loading.loading_worker import LoadingWorker
from infermesh_router.testing.loading.wishes import PINNED, Mesh, mesh
from infermesh_runtime.errors import Internal, ModelNotFound


async def restart(running: Mesh, worker: LoadingWorker) -> None:
    await worker.stop()
    await running.connected(worker, to=False)
    await worker.restart()
    await running.connected(worker)


@pytest.mark.parametrize(
    "request_", [PINNED, admin_pb2.LoadModelRequest(model="m"), admin_pb2.LoadModelRequest(model="m", keep_alive_s=60)]
)
async def test_a_restarted_worker_gets_the_models_that_operators_loaded(request_: admin_pb2.LoadModelRequest) -> None:
    worker, other = LoadingWorker(), LoadingWorker(available=())
    async with mesh(worker, other) as running:
        await running.commands.load(request_)
        await running.looks()
        await restart(running, worker)
        await running.wait_for_load(worker)
        assert [(load.model, load.pinned, load.keep_alive_s) for load in worker.loads] == [
            ("m", request_.pinned, request_.keep_alive_s)
        ]
        assert not other.loads


async def test_a_new_router_takes_over_what_is_pinned_but_not_home_models() -> None:
    worker = LoadingWorker(models=("m", "n"), home=("n",), memory_bytes=2)
    worker.retention = {name: admin_pb2.LoadModelRequest(model=name, pinned=True) for name in worker.models}
    async with mesh(worker) as running:
        await running.looks()
        await restart(running, worker)
        await running.wait_for_load(worker)
        await running.looks()
        assert worker.loads == [admin_pb2.LoadModelRequest(model="m", pinned=True, keep_alive_s=0)]


async def test_a_model_loaded_for_a_request_is_no_wish() -> None:
    worker = LoadingWorker()
    async with mesh(worker) as running:
        await running.placer.ensure(Wanted(model="m"))
        await running.looks()
        await restart(running, worker)
        await running.looks()
        assert not worker.loads


async def test_unloading_ends_a_wish_whoever_does_it() -> None:
    worker = LoadingWorker()
    async with mesh(worker) as running:
        for by_router in (True, False):
            await running.commands.load(PINNED)
            await running.looks()
            if by_router:
                await running.commands.unload(admin_pb2.UnloadModelRequest(model="m"))
            else:  # by an operator who asked the worker itself, or by another router
                worker.models = ()
                worker.tell()
                await running.until(lambda: "m" not in running.fleet.get(worker.address).snapshot.models)
            await running.looks()
            await restart(running, worker)
            await running.looks()
            assert not worker.loads


async def test_what_is_wanted_of_a_lost_endpoint_can_be_unloaded() -> None:
    worker = LoadingWorker()
    async with mesh(worker) as running:
        await running.commands.load(PINNED)
        await worker.stop()
        await running.connected(worker, to=False)
        await running.commands.unload(admin_pb2.UnloadModelRequest(model="m"))
        with pytest.raises(ModelNotFound):
            await running.commands.unload(admin_pb2.UnloadModelRequest(model="m"))
        await worker.restart()
        await running.connected(worker)
        await running.looks()
        assert not worker.loads


async def test_a_wish_ends_with_its_keep_alive_time_while_the_endpoint_is_away() -> None:
    worker = LoadingWorker()
    async with mesh(worker) as running:
        await running.commands.load(admin_pb2.LoadModelRequest(model="m", keep_alive_s=20))
        await running.looks()
        await worker.stop()
        await running.connected(worker, to=False)
        await running.looks()
        running.pass_time(20)
        await running.looks()
        await worker.restart()
        await running.connected(worker)
        await running.looks()
        assert not worker.loads


async def test_a_model_whose_endpoint_stays_away_is_loaded_on_another_one() -> None:
    worker, other = LoadingWorker(), LoadingWorker(available=())
    async with mesh(worker, other) as running:
        await running.commands.load(PINNED)
        other.available = ("m",)
        other.tell()
        await worker.stop()
        await running.connected(worker, to=False)
        await running.looks()
        running.pass_time(MOVE_AFTER_S)
        await running.wait_for_load(other)
        assert [(load.model, load.pinned) for load in other.loads] == [("m", True)]
        await worker.restart()
        await running.connected(worker)
        await running.looks()
        assert not worker.loads
        await restart(running, other)
        await running.wait_for_load(other)
        assert not worker.loads


async def test_a_model_wanted_on_one_endpoint_stays_there() -> None:
    worker, other = LoadingWorker(), LoadingWorker()
    async with mesh(worker, other) as running:
        await running.commands.load(admin_pb2.LoadModelRequest(model="m", pinned=True, device=worker.address))
        assert (len(worker.loads), other.loads) == (1, [])
        assert not worker.loads[0].device
        await worker.stop()
        await running.connected(worker, to=False)
        await running.looks()
        running.pass_time(MOVE_AFTER_S)
        await running.looks()
        assert not other.loads
        await worker.restart()
        await running.wait_for_load(worker)


async def test_a_load_that_fails_is_tried_again_later() -> None:
    worker = LoadingWorker()
    async with mesh(worker) as running:
        await running.commands.load(PINNED)
        await running.looks()
        worker.refusal = Internal("no such luck")
        await restart(running, worker)
        for loads, pause_s in zip(itertools.count(1), (1, 2, 4), strict=False):
            await running.until(lambda: sum(wish.failures for wish in running.keeper.wishes) >= loads)  # noqa: B023 - awaited here
            await running.looks()
            assert len(worker.loads) == loads
            running.pass_time(pause_s)
            if loads == 3:
                worker.refusal = None
        await running.wait_for_load(worker)


async def test_a_router_keeps_its_own_wishes() -> None:
    inner = LoadingWorker(device=pb.DEVICE_KIND_UNSPECIFIED)
    async with mesh(inner) as running:
        await running.commands.load(PINNED)
        await running.looks()
        await restart(running, inner)
        await running.looks()
        assert not inner.loads
