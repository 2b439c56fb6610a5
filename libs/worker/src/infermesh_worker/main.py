"""Owns how a worker process is put together and run. Knows no device: services name what loads the model."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import Any

from prometheus_client import CollectorRegistry

from infermesh.inference.v1.inference_pb2_grpc import add_InferenceServiceServicer_to_server
from infermesh_runtime import logs
from infermesh_runtime.interceptors import log_access
from infermesh_runtime.metrics import RpcMetrics, metrics_part, new_registry
from infermesh_runtime.server import Part, Server, run
from infermesh_runtime.settings import split_host_port
from infermesh_worker.convert import to_report
from infermesh_worker.front import Front
from infermesh_worker.ipc import Start
from infermesh_worker.metrics import Meter, WorkerCollector
from infermesh_worker.model_folder import find_model
from infermesh_worker.readiness import Readiness
from infermesh_worker.served_model import ServedModel
from infermesh_worker.servicer import InferenceServicer
from infermesh_worker.settings import WorkerSettings
from infermesh_worker.supervisor import RestartPolicy

FOLDER_OPTION = "folder"
"""Name of the build option that holds the model folder's path."""


def serve(settings: WorkerSettings, *, build: str, options: Mapping[str, Any], model: ServedModel | None = None) -> int:
    """Runs a worker until SIGTERM or SIGINT; returns the process' exit status.

    `build` names the function that the engine process calls with `options` (plain values) to get a LoadedModel, as
    package.module:function. Without `model`, the model folder that the settings name is served, and its path is added
    to the options as "folder". One log line says {"message": "ready", "listen": "host:port"} when it takes requests.
    """
    logs.configure(settings.log_level)
    return run(partial(_serve, settings, build, options, model))


async def _serve(settings: WorkerSettings, build: str, options: Mapping[str, Any], model: ServedModel | None) -> None:
    if model is None:
        folder = find_model(settings.models_root, settings.model)
        model = ServedModel.from_folder(folder)
        options = {**options, FOLDER_OPTION: str(folder.path)}
    meter, registry = Meter(), new_registry()
    policy = RestartPolicy(max_silence_s=settings.engine_timeout_s)
    front = Front(build, _start_frame(settings, options), meter, policy)
    registry.register(WorkerCollector(meter, lambda: front.status.value.load, model.name))
    server = _build_server(settings, front, model, registry)
    await server.serve_until_stopped()


def _start_frame(settings: WorkerSettings, options: Mapping[str, Any]) -> Start:
    return Start(
        options=dict(options),
        max_sequences=settings.max_sequences,
        max_batched_tokens=settings.max_batched_tokens,
        prefix_caching=settings.prefix_caching,
        log_level=settings.log_level,
    )


def _build_server(settings: WorkerSettings, front: Front, model: ServedModel, registry: CollectorRegistry) -> Server:
    observers = (log_access, RpcMetrics(registry))
    server = Server(listen=settings.listen, drain_s=settings.drain_s, observers=observers)
    report = partial(
        to_report,
        model=model,
        version=version("infermesh-worker"),
        started_at=datetime.now(UTC),
        max_running=settings.max_sequences,
        max_waiting=settings.max_waiting,
    )
    servicer = InferenceServicer(front, model, report)
    add_InferenceServiceServicer_to_server(servicer, server)  # type: ignore[no-untyped-call] # generated
    host, _ = split_host_port(settings.listen)
    readiness = Readiness(front.status, server, lambda: f"{host}:{server.port}")
    server.add_part(Part(name="engine", start=front.start, drain=front.drain, close=front.stop))
    server.add_part(Part(name="readiness", start=readiness.start, close=readiness.stop))
    server.add_part(metrics_part(registry, settings.metrics_listen))
    return server
