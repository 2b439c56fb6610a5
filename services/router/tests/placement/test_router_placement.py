"""Models that requests ask for are loaded, once, where they fit, before endpoints that follow a script."""

import asyncio

import pytest

from infermesh.admin.v1 import admin_pb2
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.placement.placer import Retention
from infermesh_router.policy.refusals import ModelDoesNotFit
from infermesh_router.policy.snapshot import Wanted
from infermesh_router.testing.loading.loading_worker import LoadingWorker
from infermesh_router.testing.loading.placing import StartMesh
from infermesh_runtime.errors import (
    DeviceNotAvailable,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    ModelNotFound,
    ResourceExhausted,
    Unavailable,
)

READY, LOADING = pb.ENDPOINT_STATE_READY, pb.ENDPOINT_STATE_LOADING


async def test_a_model_is_loaded_with_its_rule(start: StartMesh) -> None:
    worker = LoadingWorker()
    mesh = await start(worker, retention=lambda model: Retention(pinned=model == "m", keep_alive_s=7))
    await mesh.placer.ensure(Wanted(model="m"))
    assert worker.loads == [admin_pb2.LoadModelRequest(model="m", pinned=True, keep_alive_s=7)]
    assert "m" in mesh.fleet.get(worker.address).snapshot.ready_models
    assert (mesh.loads("loaded"), mesh.placer.loading) == (1, 0)


async def test_a_conversation_with_a_base_model_is_refused_before_the_load(start: StartMesh) -> None:
    base = LoadingWorker(has_chat_template=False)
    mesh = await start(base)
    with pytest.raises(FailedPrecondition, match="base model") as refused:
        await mesh.placer.ensure(Wanted(model="m", chat=True))
    assert refused.value.reason == "NO_CHAT_TEMPLATE"
    assert not base.loads
    await mesh.placer.ensure(Wanted(model="m"))
    assert [load.model for load in base.loads] == ["m"]


async def test_all_who_want_a_model_share_one_load(start: StartMesh) -> None:
    worker = LoadingWorker(memory_bytes=4)
    mesh = await start(worker)
    worker.may_load.clear()
    tasks = [asyncio.create_task(mesh.placer.ensure(Wanted(model="m"))) for _ in range(20)]
    await worker.asked.wait()
    other = asyncio.create_task(mesh.placer.ensure(Wanted(model="n")))
    await asyncio.sleep(0)
    worker.may_load.set()
    await asyncio.gather(*tasks, other)
    assert sorted(request.model for request in worker.loads) == ["m", "n"]


async def test_an_image_does_not_wait_for_a_load_where_it_is_refused(start: StartMesh) -> None:
    blind = LoadingWorker(sees={"m": False})
    mesh = await start(blind)
    blind.may_load.clear()
    text = asyncio.create_task(mesh.placer.ensure(Wanted(model="m")))
    await blind.asked.wait()
    with pytest.raises(InvalidArgument, match="takes no images"):
        await asyncio.wait_for(mesh.placer.ensure(Wanted(model="m", image="chat.messages[0].parts[0]")), 10)
    blind.may_load.set()
    await text


async def test_the_load_goes_on_when_the_client_leaves(start: StartMesh) -> None:
    worker = LoadingWorker()
    mesh = await start(worker)
    worker.may_load.clear()
    task = asyncio.create_task(mesh.placer.ensure(Wanted(model="m")))
    await worker.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert mesh.placer.loading == 1
    worker.may_load.set()
    await mesh.until(lambda: "m" in mesh.fleet.get(worker.address).snapshot.ready_models)


async def test_a_model_that_loads_somewhere_is_waited_for(start: StartMesh) -> None:
    worker, other = LoadingWorker(), LoadingWorker()
    mesh = await start(worker, other)
    worker.show("m", LOADING)
    await mesh.until(lambda: "m" in mesh.fleet.get(worker.address).snapshot.models)
    task = asyncio.create_task(mesh.placer.ensure(Wanted(model="m")))
    worker.show("n", READY)
    await mesh.until(lambda: "n" in mesh.fleet.get(worker.address).snapshot.ready_models)
    await mesh.settle()
    assert not task.done()
    worker.show("m", READY)
    await task
    assert not worker.loads
    assert not other.loads


async def test_when_such_a_load_fails_another_endpoint_is_tried(start: StartMesh) -> None:
    worker, other = LoadingWorker(), LoadingWorker()
    mesh = await start(worker, other)
    worker.show("m", LOADING)
    await mesh.until(lambda: "m" in mesh.fleet.get(worker.address).snapshot.models)
    task = asyncio.create_task(mesh.placer.ensure(Wanted(model="m")))
    await asyncio.sleep(0)
    worker.hide("m")
    await task
    assert len(other.loads) == 1


async def test_a_load_that_fails_is_tried_on_one_other_endpoint(start: StartMesh) -> None:
    workers = [LoadingWorker(refusal=Internal("no such luck")) for _ in range(3)]
    mesh = await start(*workers)
    with pytest.raises(Internal, match="no such luck"):
        await mesh.placer.ensure(Wanted(model="m"))
    assert sum(len(worker.loads) for worker in workers) == 2
    assert mesh.loads("failed") == 1
    workers[0].refusal = workers[1].refusal = workers[2].refusal = None
    await mesh.placer.ensure(Wanted(model="m"))


async def test_an_endpoint_that_dies_while_it_loads_is_replaced(start: StartMesh) -> None:
    worker, other = LoadingWorker(), LoadingWorker(device=pb.DEVICE_KIND_XPU)
    mesh = await start(worker, other)
    worker.may_load.clear()
    other.may_load.clear()
    task = asyncio.create_task(mesh.placer.ensure(Wanted(model="m")))
    dying, staying = (worker, other) if await _asked_first(worker, other) is worker else (other, worker)
    staying.may_load.set()
    await dying.stop()
    await task
    assert len(staying.loads) == 1


async def _asked_first(*workers: LoadingWorker) -> LoadingWorker:
    waits = {asyncio.create_task(worker.asked.wait()): worker for worker in workers}
    done, pending = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in pending:
        wait.cancel()
    return waits[done.pop()]


async def test_the_refusal_says_what_is_needed_and_what_is_free(start: StartMesh) -> None:
    worker = LoadingWorker()
    mesh = await start(worker)
    mesh.fleet.get(worker.address).note_report(_busy_report())
    with pytest.raises(ModelDoesNotFit, match=r"needs .* at most") as caught:
        await mesh.placer.ensure(Wanted(model="m"))
    assert caught.value.metadata["needed_bytes"] == "5000"
    assert caught.value.metadata["free_bytes"] == "1000"


def _busy_report() -> pb.HealthReport:
    return pb.HealthReport(
        state=READY,
        device=pb.Device(kind=pb.DEVICE_KIND_CPU, memory_total_bytes=9000, memory_free_bytes=1000),
        models=[pb.ModelStatus(name="busy", state=READY, memory_bytes=8000, sequences=1)],
        available=[pb.AvailableModel(name="m", memory_bytes=5000)],
    )


async def test_an_endpoint_that_finds_no_memory_after_all_is_believed(start: StartMesh) -> None:
    refusal = ResourceExhausted("needs 5, free 1", reason="MODEL_DOES_NOT_FIT", metadata={"needed_bytes": "5"})
    mesh = await start(LoadingWorker(refusal=refusal))
    with pytest.raises(ResourceExhausted, match="needs 5, free 1") as caught:
        await mesh.placer.ensure(Wanted(model="m"))
    assert caught.value.reason == "MODEL_DOES_NOT_FIT"
    assert caught.value.metadata["needed_bytes"] == "5"


async def test_the_device_asked_for_is_kept(start: StartMesh) -> None:
    cpu, xpu = LoadingWorker(), LoadingWorker(device=pb.DEVICE_KIND_XPU)
    mesh = await start(cpu, xpu)
    await mesh.placer.ensure(Wanted(model="m", device="xpu"))
    assert (len(cpu.loads), len(xpu.loads)) == (0, 1)
    with pytest.raises(DeviceNotAvailable):
        await mesh.placer.ensure(Wanted(model="n", device="cuda"))
    with pytest.raises(ModelNotFound):
        await mesh.placer.ensure(Wanted(model="unheard-of"))


async def test_a_load_that_takes_too_long_is_given_up(start: StartMesh) -> None:
    worker = LoadingWorker()
    mesh = await start(worker, load_timeout_s=0.05)
    worker.may_load.clear()
    with pytest.raises(Unavailable, match="in time"):
        await mesh.placer.ensure(Wanted(model="m"))
    assert mesh.placer.loading == 0
