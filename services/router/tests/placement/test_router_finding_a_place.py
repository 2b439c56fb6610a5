"""The router waits for a place without polling, and supervises its loads."""

import asyncio
from collections.abc import Sequence

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.policy.placing import Placement
from infermesh_router.policy.refusals import ModelDoesNotFit
from infermesh_router.policy.snapshot import EndpointSnapshot, Wanted
from infermesh_router.testing.loading.loading_worker import LoadingWorker
from infermesh_router.testing.loading.placing import running_mesh
from infermesh_runtime.background.tasks import TaskSupervisor


async def test_a_place_is_looked_for_when_something_changes_and_at_no_other_time() -> None:
    tried: list[Wanted] = []

    def none_fits(_endpoints: Sequence[EndpointSnapshot], wanted: Wanted) -> Placement:
        tried.append(wanted)
        raise ModelDoesNotFit("needs 1, free 0")

    worker = LoadingWorker()
    async with running_mesh(worker, place=none_fits) as mesh:
        with pytest.raises(ModelDoesNotFit):
            await mesh.placer.ensure(Wanted(model="m"))
        assert len(tried) == 1
        waiting = asyncio.create_task(mesh.placer.ensure(Wanted(model="m")))
        await mesh.settle()
        worker.show("n", pb.ENDPOINT_STATE_READY)
        await mesh.until(lambda: "n" in mesh.fleet.get(worker.address).snapshot.ready_models)
        await mesh.settle()
        assert len(tried) == 3
        with pytest.raises(ModelDoesNotFit):
            await waiting


async def test_a_running_load_is_a_supervised_task() -> None:
    tasks, worker = TaskSupervisor(), LoadingWorker()
    async with running_mesh(worker, tasks=tasks) as mesh:
        worker.may_load.clear()
        loading = asyncio.create_task(mesh.placer.ensure(Wanted(model="m")))
        await worker.asked.wait()
        assert [task.name for task in tasks.running] == ["load m"]
        worker.may_load.set()
        await loading
