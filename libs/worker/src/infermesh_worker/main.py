"""Owns how a worker process is put together and run. Knows no device: services name what loads the models."""

from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import Any

from prometheus_client import CollectorRegistry

from infermesh.admin.v1.admin_pb2_grpc import add_EndpointServiceServicer_to_server
from infermesh.inference.v1.inference_pb2_grpc import add_InferenceServiceServicer_to_server
from infermesh_engine.requests.output import EngineLoad
from infermesh_runtime import logs
from infermesh_runtime.metrics import RpcMetrics, metrics_part, new_registry
from infermesh_runtime.process import run
from infermesh_runtime.rpc.interceptor import log_access
from infermesh_runtime.rpc.server import Server, ServerPart
from infermesh_runtime.settings import split_host_port
from infermesh_worker.backend import Backend
from infermesh_worker.engine_process.front import Front
from infermesh_worker.engine_process.ipc import Start
from infermesh_worker.engine_process.metrics import Meters, WorkerCollector
from infermesh_worker.engine_process.supervisor import RestartPolicy
from infermesh_worker.models.catalog import OpenedModel
from infermesh_worker.models.device import Device
from infermesh_worker.models.device_probe import probe_device
from infermesh_worker.models.models import Limits
from infermesh_worker.models.queue_bound import QueueBound
from infermesh_worker.rpc.endpoint_servicer import EndpointServicer
from infermesh_worker.rpc.readiness import Readiness
from infermesh_worker.rpc.registration import Registration
from infermesh_worker.rpc.report import to_report
from infermesh_worker.rpc.servicer import InferenceServicer
from infermesh_worker.settings import WorkerSettings
from infermesh_worker.worker import Worker

KV_OPTION = "kv_cache_bytes"
"""Name of the build option that holds the size of a model's KV cache; 0: the runner chooses."""


def serve(settings: WorkerSettings, backend: Backend) -> int:
    """Runs a worker until SIGTERM or SIGINT; returns the process' exit status.

    One log line says {"message": "ready", "listen": "host:port"} when it takes requests.
    """
    logs.configure(settings.log_level)
    return run(partial(_serve, settings, backend))


async def _serve(settings: WorkerSettings, backend: Backend) -> None:
    meters, registry = Meters(), new_registry()
    worker = _build_worker(settings, backend, meters)
    registry.register(WorkerCollector(meters, partial(_loads, worker)))
    server = _build_server(settings, worker, registry)
    await server.serve_until_stopped()


def _build_worker(settings: WorkerSettings, backend: Backend, meters: Meters) -> Worker:
    policy = RestartPolicy(max_silence_s=settings.engine_timeout_s)

    def make_front(opened: OpenedModel, kv_cache_bytes: int) -> Front:
        start = _start_frame(settings, {**opened.options, KV_OPTION: kv_cache_bytes})
        return Front(backend.build, start, meters.of(opened.served.name), policy)

    device = Device(
        partial(probe_device, backend.probe, backend.options),
        memory_bytes=int(settings.memory_bytes or 0),
        margin=backend.margin,
    )
    limits = Limits(
        bound=QueueBound(max_running=settings.max_sequences, max_waiting=settings.max_waiting),
        keep_alive_s=settings.keep_alive_s,
        kv_cache_bytes=int(settings.kv_cache_bytes or 0),
    )
    return Worker(backend.catalog, make_front, device, limits, backend.open_home())


def _loads(worker: Worker) -> Mapping[str, EngineLoad]:
    return {model.served.name: model.front.status.value.load for model in worker.models.loaded}


def _start_frame(settings: WorkerSettings, options: Mapping[str, Any]) -> Start:
    return Start(
        options=dict(options),
        max_sequences=settings.max_sequences,
        max_batched_tokens=settings.max_batched_tokens,
        prefix_caching=settings.prefix_caching,
        log_level=settings.log_level,
    )


def _build_server(settings: WorkerSettings, worker: Worker, registry: CollectorRegistry) -> Server:
    observers = (log_access, RpcMetrics(registry))
    server = Server(listen=settings.listen, drain_s=settings.drain_s, observers=observers)
    report = partial(to_report, version=version("infermesh-worker"), started_at=datetime.now(UTC))
    add_InferenceServiceServicer_to_server(InferenceServicer(worker, report), server)  # type: ignore[no-untyped-call] # generated
    add_EndpointServiceServicer_to_server(EndpointServicer(worker), server)  # type: ignore[no-untyped-call] # generated
    host, _ = split_host_port(settings.listen)
    readiness = Readiness(worker.status, server, lambda: f"{host}:{server.port}")
    registration = Registration(settings.routers, settings.advertise or settings.listen, lambda: server.port)
    server.add_part(ServerPart(name="registration", listening=registration.start, close=registration.stop))
    server.add_part(ServerPart(name="models", start=worker.start, drain=worker.drain, close=worker.stop))
    server.add_part(ServerPart(name="readiness", start=readiness.start, close=readiness.stop))
    server.add_part(metrics_part(registry, settings.metrics_listen))
    return server
