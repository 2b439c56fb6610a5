"""Operators load, pin and unload models, also those that somebody else is loading."""

import asyncio

import pytest

from infermesh.admin.v1 import admin_pb2
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.placement.model_commands import ModelCommands
from infermesh_router.policy.snapshot import Wanted
from infermesh_router.testing.loading.loading_worker import LoadingWorker
from infermesh_router.testing.loading.placing import StartMesh
from infermesh_runtime.errors import FailedPrecondition, InvalidArgument, ModelNotFound

READY, LOADING = pb.ENDPOINT_STATE_READY, pb.ENDPOINT_STATE_LOADING


async def test_who_joins_a_load_keeps_its_pin_and_keep_alive_time_even_if_it_leaves(start: StartMesh) -> None:
    worker = LoadingWorker()
    mesh = await start(worker)
    worker.may_load.clear()
    first = asyncio.create_task(mesh.placer.ensure(Wanted(model="m")))
    await worker.asked.wait()
    models = ModelCommands(mesh.fleet, mesh.placer)
    leaving = asyncio.create_task(models.load(admin_pb2.LoadModelRequest(model="m", pinned=True)))
    joining = asyncio.create_task(models.load(admin_pb2.LoadModelRequest(model="m", keep_alive_s=7)))
    await asyncio.sleep(0)  # both have joined
    leaving.cancel()
    worker.may_load.set()
    await asyncio.gather(first, joining)
    plain = admin_pb2.LoadModelRequest(model="m")
    assert worker.loads == [plain, admin_pb2.LoadModelRequest(model="m", pinned=True, keep_alive_s=7)]


async def test_a_pin_reaches_a_load_that_somebody_else_began(start: StartMesh) -> None:
    worker = LoadingWorker()
    mesh = await start(worker)
    worker.show("m", LOADING)
    await mesh.until(lambda: "m" in mesh.fleet.get(worker.address).snapshot.models)
    request = admin_pb2.LoadModelRequest(model="m", pinned=True)
    await ModelCommands(mesh.fleet, mesh.placer).load(request)
    assert worker.loads == [request]


async def test_operators_load_and_unload(start: StartMesh) -> None:
    one, two = LoadingWorker(), LoadingWorker(models=("m",), memory_bytes=2)
    mesh = await start(one, two)
    models = ModelCommands(mesh.fleet, mesh.placer)
    request = admin_pb2.LoadModelRequest(model="m", pinned=True)
    assert await models.load(request) == []
    assert (one.loads, two.loads) == ([], [request])  # it has it already, and is told that it is pinned
    await models.load(admin_pb2.LoadModelRequest(model="n"))
    with pytest.raises(ModelNotFound, match="does not exist; available: m, n"):
        await models.load(admin_pb2.LoadModelRequest(model="unheard-of"))
    with pytest.raises(InvalidArgument):
        await models.load(admin_pb2.LoadModelRequest())
    await models.unload(admin_pb2.UnloadModelRequest(model="m", force=True))
    assert two.unloads == [admin_pb2.UnloadModelRequest(model="m", force=True)]
    await mesh.until(lambda: "m" not in mesh.fleet.get(two.address).snapshot.models)
    with pytest.raises(ModelNotFound, match="not loaded on any endpoint"):
        await models.unload(admin_pb2.UnloadModelRequest(model="m"))


async def test_operators_load_and_unload_what_an_alias_stands_for(start: StartMesh) -> None:
    worker = LoadingWorker(memory_bytes=2)
    mesh = await start(worker)
    models = ModelCommands(mesh.fleet, mesh.placer, aliases=lambda: {"chat": ["m", "n"]})
    await models.load(admin_pb2.LoadModelRequest(model="chat", pinned=True))
    assert [(request.model, request.pinned) for request in worker.loads] == [("m", True), ("n", True)]
    await models.unload(admin_pb2.UnloadModelRequest(model="chat", force=True))
    assert [(request.model, request.force) for request in worker.unloads] == [("m", True), ("n", True)]
    await mesh.until(lambda: not mesh.fleet.get(worker.address).snapshot.models)
    with pytest.raises(ModelNotFound, match="'m' is not loaded on any endpoint"):
        await models.unload(admin_pb2.UnloadModelRequest(model="chat"))


async def test_an_unload_that_is_refused_is_told(start: StartMesh) -> None:
    refusal = FailedPrecondition("2 requests run", reason="MODEL_IN_USE")
    worker = LoadingWorker(models=("m",), refusal=refusal)
    mesh = await start(worker)
    with pytest.raises(FailedPrecondition, match="2 requests run"):
        await ModelCommands(mesh.fleet, mesh.placer).unload(admin_pb2.UnloadModelRequest(model="m"))
