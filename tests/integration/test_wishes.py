"""A worker process that dies and comes back gets the models again that operators loaded on it."""

import signal

from infermesh.admin.v1 import admin_pb2
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_client.mesh.ports import pick_free_ports
from infermesh_router.testing.router import running_router
from infermesh_worker.testing.processes import WorkerProcess


async def test_a_worker_that_was_killed_gets_its_pinned_model_again() -> None:
    address = f"127.0.0.1:{pick_free_ports(1)[0]}"
    settings = {"listen": address, "model": "home", "sim_models": "a:40,home:10", "sim_memory_bytes": 100}
    worker = await WorkerProcess.start(**settings)
    try:
        await worker.ready()
        async with running_router(address) as router:
            request = admin_pb2.LoadModelRequest(model="a", pinned=True, keep_alive_s=77)
            await router.endpoint_service.LoadModel(request, timeout=60)
            (before,) = await router.endpoints_when(lambda listed: len(listed[0].report.models) == 2)
            await worker.stop(signal.SIGKILL)
            worker = await WorkerProcess.start(**settings)
            (after,) = await router.endpoints_when(
                lambda listed: (
                    listed[0].report.started_at != before.report.started_at
                    and [model.state for model in listed[0].report.models] == [pb.ENDPOINT_STATE_READY] * 2
                )
            )
            models = {model.name: model for model in after.report.models}
            assert (models["a"].pinned, models["a"].keep_alive_s, models["a"].home) == (True, 77, False)
            assert models["home"].home
    finally:
        await worker.stop()
