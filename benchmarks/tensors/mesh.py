"""Starts the mesh that is measured: worker-cpu, a router before it, and Envoy before that."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.tensors.models import SAME, Graphs, import_models
from infermesh_envoy import Address, EnvoyOptions, EnvoyProcess
from infermesh_worker.testing.processes import WorkerProcess


@dataclass(frozen=True, slots=True)
class Mesh:
    """Where its parts listen, host:port."""

    worker: str
    router: str
    envoy_grpc: str
    envoy_http: str


async def start_mesh(home: Path, graphs: Graphs, parts: AsyncExitStack) -> Mesh:
    """Starts processes that end with `parts`."""
    root = home / "models"
    import_models(graphs, root)
    worker = await WorkerProcess.start("infermesh_worker_cpu", home=home, models=root, model=SAME)
    parts.push_async_callback(worker.stop)
    address = await worker.ready()
    router = await WorkerProcess.start(
        "infermesh_router",
        workers=address,
        listen="127.0.0.1:0",
        metrics_listen="127.0.0.1:0",
        admin_listen=f"unix:{home}/admin.sock",
        shared_memory=True,
    )
    parts.push_async_callback(router.stop)
    router_address = await router.ready()
    await router.wait_for(f"connected to endpoint {address}")
    envoy = await asyncio.to_thread(_start_envoy, router_address, home / "envoy")
    parts.callback(envoy.stop)
    return Mesh(address, router_address, envoy.grpc, str(envoy.address("rest")))


def _start_envoy(router: str, folder: Path) -> EnvoyProcess:
    free = Address("127.0.0.1", 0)
    log = str(folder / "access.log")
    envoy = EnvoyProcess(EnvoyOptions(http=free, grpc=free, router=Address.parse(router), access_log=log), folder)
    envoy.start()
    return envoy
