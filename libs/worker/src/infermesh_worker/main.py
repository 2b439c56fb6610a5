"""Assembles and runs the front process of a worker."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import version
from typing import Any

from prometheus_client import CollectorRegistry

from infermesh.admin.v1.admin_pb2_grpc import (
    add_EndpointServiceServicer_to_server,
    add_ModelsFolderServiceServicer_to_server,
)
from infermesh.inference.v1.inference_pb2 import ModelsFolder
from infermesh_engine.requests.output import EngineLoad
from infermesh_engine.speculation.options import SpeculationOptions
from infermesh_runtime import logs
from infermesh_runtime.background.task_metrics import TaskCollector
from infermesh_runtime.background.tasks import TaskSupervisor
from infermesh_runtime.manifest.model_kind import GENERATE, ModelKind
from infermesh_runtime.metrics import RpcMetrics, metrics_part, new_registry
from infermesh_runtime.processes.process import run
from infermesh_runtime.rpc.access import identity_of, mesh_access
from infermesh_runtime.rpc.interceptor import log_access
from infermesh_runtime.rpc.server import Server, ServerPart
from infermesh_runtime.settings import split_host_port
from infermesh_worker.backend import Backend
from infermesh_worker.device.binding import bind
from infermesh_worker.device.device_probe import probe_device
from infermesh_worker.device.worker_device import WorkerDevice
from infermesh_worker.engine_client.engine_client import EngineClient
from infermesh_worker.engine_client.metrics import WorkerCollector
from infermesh_worker.engine_client.request_meter import RequestMeters
from infermesh_worker.engine_client.supervisor import RestartPolicy
from infermesh_worker.engine_process.frames import FormatLimits, StartCommand
from infermesh_worker.front_watchdog import FrontWatchdog
from infermesh_worker.hosting.model_loader import ModelLimits
from infermesh_worker.hosting.queue_bound import QueueBound
from infermesh_worker.importing.command import import_problem
from infermesh_worker.importing.imports import Imports
from infermesh_worker.importing.removal import Removal
from infermesh_worker.models.neutral_catalog import NeutralCatalog, without_defaults
from infermesh_worker.models.opened_model import OpenedModel
from infermesh_worker.rpc.endpoint_servicer import EndpointServicer
from infermesh_worker.rpc.inference_servicer import SERVICE, InferenceServicer, inference_handlers
from infermesh_worker.rpc.models_folder_servicer import ModelsFolderServicer
from infermesh_worker.rpc.readiness import Readiness
from infermesh_worker.rpc.registration import Registration
from infermesh_worker.rpc.report import to_report
from infermesh_worker.settings import WorkerSettings
from infermesh_worker.worker import Worker

KV_OPTION = "kv_cache_bytes"
"""Name of the build option that holds the size of a model's KV cache in bytes; 0: the runner chooses."""


def serve(settings: WorkerSettings, backend: Backend) -> int:
    """Runs a worker until SIGTERM or SIGINT; returns the process's exit status.

    When it takes requests, it logs {"message": "ready", "listen": "host:port"}.
    """
    logs.configure(settings.log_level)
    if backend.part is not None:
        bind(backend.part)
    return run(partial(_serve, settings, backend))


async def _serve(settings: WorkerSettings, backend: Backend) -> None:
    watchdog = FrontWatchdog(settings.front_timeout_s)
    await watchdog.start()
    try:
        await build_server(settings, backend).serve_until_stopped()
    finally:
        await watchdog.stop()


def build_server(settings: WorkerSettings, backend: Backend, tasks: TaskSupervisor | None = None) -> Server:
    """Builds a worker's server, ready to start."""
    meters, registry, tasks = RequestMeters(), new_registry(), tasks or TaskSupervisor()
    worker = _build_worker(settings, backend, meters, tasks)
    registry.register(WorkerCollector(meters, partial(_loads, worker)))
    registry.register(TaskCollector(tasks))
    return _build_server(settings, worker, registry, tasks, backend.kinds)


def _build_worker(settings: WorkerSettings, backend: Backend, meters: RequestMeters, tasks: TaskSupervisor) -> Worker:
    policy = RestartPolicy(max_silence_s=settings.engine_timeout_s)

    def make_client(opened: OpenedModel, kv_cache_bytes: int) -> EngineClient:
        start = _start_command(settings, {**opened.build_options, KV_OPTION: kv_cache_bytes})
        if opened.chat_template is not None:
            opened.chat_template.timeout_s = settings.chat_template_timeout_s
            opened.chat_template.content_format = settings.chat_content_format
            opened.chat_template.special_tokens_anywhere = settings.special_tokens_in_messages
        meter = meters.of(opened.name)
        shared = 0 if opened.kind == GENERATE else int(settings.tensor_memory_bytes)
        return EngineClient(
            backend.build, start, meter, policy, name=opened.name, tasks=tasks, tensor_memory_bytes=shared
        )

    device = WorkerDevice(
        partial(probe_device, backend.probe, backend.options),
        memory_bytes=int(settings.memory_bytes or 0),
        margin=backend.margin,
        available=backend.available,
        part=backend.part,
    )
    limits = ModelLimits(
        bound=QueueBound(max_running=settings.max_sequences, max_waiting=settings.max_waiting),
        keep_alive_s=settings.keep_alive_s,
        kv_cache_bytes=int(settings.kv_cache_bytes or 0),
    )
    catalog, home = backend.catalog, backend.open_home()
    if settings.generation_config == "neutral":
        catalog, home = NeutralCatalog(catalog), without_defaults(home) if home else None
    return Worker(catalog, make_client, device, limits, home, tasks=tasks, kinds=backend.kinds)


def _loads(worker: Worker) -> Mapping[str, EngineLoad]:
    return {model.opened.name: model.client.status.value.load for model in worker.models.all}


def _start_command(settings: WorkerSettings, options: Mapping[str, Any]) -> StartCommand:
    return StartCommand(
        options=dict(options),
        max_sequences=settings.max_sequences,
        max_batched_tokens=settings.max_batched_tokens,
        prefix_caching=settings.prefix_caching,
        log_level=settings.log_level,
        formats=FormatLimits(
            timeout_s=settings.grammar_timeout_s,
            memory_bytes=int(settings.grammar_memory_bytes),
            cache_bytes=int(settings.grammar_cache_bytes),
        ),
        speculation=SpeculationOptions(mode=settings.speculation, max_tokens=settings.speculation_tokens),
    )


def _build_server(
    settings: WorkerSettings,
    worker: Worker,
    registry: CollectorRegistry,
    tasks: TaskSupervisor,
    kinds: Sequence[ModelKind],
) -> Server:
    observers = (log_access, RpcMetrics(registry))
    identity = identity_of(settings)
    access = mesh_access(identity, settings.listen, reflection=settings.reflection)
    server = Server(listen=settings.listen, drain_s=settings.drain_s, observers=observers, access=access)
    imports = _build_imports(settings, worker, tasks)
    report = partial(
        to_report,
        version=version("infermesh-worker"),
        started_at=datetime.now(UTC),
        kinds=kinds,
        folder=ModelsFolder(id=imports.folder_id, import_problem=imports.problem),
    )
    server.add_service(SERVICE, inference_handlers(InferenceServicer(worker, report, settings.json_objects)))
    add_EndpointServiceServicer_to_server(EndpointServicer(worker), server)
    removal = Removal(settings.models_root, worker.loader, allowed=settings.manage_models, tasks=tasks)
    add_ModelsFolderServiceServicer_to_server(ModelsFolderServicer(imports, removal), server)
    host, _ = split_host_port(settings.listen)
    readiness = Readiness(worker.status, server, lambda: f"{host}:{server.port}", tasks)
    registration = Registration(
        settings.routers, settings.advertise or settings.listen, lambda: server.port, tasks, identity=identity
    )
    server.add_part(ServerPart(name="background tasks", close=tasks.close))
    server.add_part(ServerPart(name="registration", listening=registration.start, close=registration.stop))
    server.add_part(ServerPart(name="models", start=worker.start, drain=worker.drain, close=worker.stop))
    server.add_part(ServerPart(name="imports", close=imports.stop))
    server.add_part(ServerPart(name="readiness", start=readiness.start, close=readiness.stop))
    server.add_part(metrics_part(registry, settings.metrics_listen))
    return server


def _build_imports(settings: WorkerSettings, worker: Worker, tasks: TaskSupervisor) -> Imports:
    root = settings.models_root
    return Imports(
        root,
        settings.home,
        problem=import_problem(root, allowed=settings.manage_models),
        holds=worker.loader.holds,
        rescan=worker.loader.rescan,
        on_change=worker.note_import,
        tasks=tasks,
    )
