"""Assembles a router: its services for clients and operators, and what starts and stops with it."""

import asyncio
import logging
import signal
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from infermesh.admin.v1.admin_pb2_grpc import add_AdminServiceServicer_to_server, add_EndpointServiceServicer_to_server
from infermesh_router.access.access import Access
from infermesh_router.access.keys_file import FollowedKeys
from infermesh_router.api.admin_servicer import AdminServicer
from infermesh_router.api.endpoint_servicer import EndpointServicer
from infermesh_router.api.inference_servicer import SERVICE, inference_handlers
from infermesh_router.api.task_health import serving_unless_disabled, task_health_part
from infermesh_router.client_plane import LIMITED_METHODS, add_client_plane, make_inference
from infermesh_router.config.body_options import body_budget
from infermesh_router.config.mesh_file import MeshFile
from infermesh_router.config.settings import RouterSettings
from infermesh_router.core import Core, build_core
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.kserve_plane import OpenInference, add_open_inference
from infermesh_router.membership.configured_workers import ConfiguredWorkers
from infermesh_router.membership.named_siblings import NamedSiblings
from infermesh_router.membership.registry import Registry
from infermesh_router.membership.resolver import Resolve, resolve_with_dns
from infermesh_router.membership.target import join_host_port
from infermesh_router.mesh_plane import Operations, add_mesh_plane, add_sibling_plane, build_operations
from infermesh_router.metrics.access_metrics import AccessMetrics
from infermesh_router.requests.parsing_pool import ParsingPool
from infermesh_router.siblings.siblings import Siblings
from infermesh_runtime.background.task_metrics import TaskCollector
from infermesh_runtime.background.tasks import TaskSupervisor
from infermesh_runtime.machine import usable_processors
from infermesh_runtime.metrics import RpcMetrics, metrics_part, new_registry
from infermesh_runtime.rpc.access import client_access, identity_of, mesh_access
from infermesh_runtime.rpc.interceptor import log_access
from infermesh_runtime.rpc.limits.body_budget import Bodies
from infermesh_runtime.rpc.limits.call_limit import CallLimit
from infermesh_runtime.rpc.server import Server, ServerPart
from infermesh_runtime.settings import split_host_port

_log = logging.getLogger(__name__)


def build_server(
    settings: RouterSettings, *, resolve: Resolve = resolve_with_dns, tasks: TaskSupervisor | None = None
) -> Server:
    """Builds a router's server, ready to start. `resolve` turns DNS names into addresses. Raises MeshConfigError."""
    metrics, tasks, bodies = new_registry(), tasks or TaskSupervisor(), body_budget(settings)
    metrics.register(TaskCollector(tasks))
    core = build_core(settings, metrics, tasks)
    server = _empty_server(settings, metrics, bodies)
    keys = FollowedKeys(settings.keys_path(), required=bool(settings.keys_file))
    pool = ParsingPool(processes=min(2, usable_processors()))
    registry = Registry(core.fleet.set_addresses)
    set_serving = serving_unless_disabled(server.set_serving, tasks)
    access_metrics = AccessMetrics(metrics)
    access = Access(keys, access_metrics, routers=lambda: core.siblings.routers)
    add_client_plane(server, settings, core, access=access, pool=pool, metrics=metrics, tasks=tasks, bodies=bodies)
    tensors = add_open_inference(server, settings, core, access=access, pool=pool, tasks=tasks)
    operations = build_operations(core, registry)
    add_mesh_plane(server, settings, core, operations, access=access, tasks=tasks)
    if settings.admin_listen:
        everybody = Access(FollowedKeys(None), access_metrics, routers=lambda: core.siblings.routers)
        _add_admin_plane(
            server,
            settings,
            core,
            everybody=everybody,
            pool=pool,
            tensors=tensors,
            registry=registry,
            operations=operations,
            set_serving=set_serving,
        )
    workers = _configured_workers(settings, registry, resolve, tasks)
    for part in (
        ServerPart(name="background tasks", close=tasks.close),
        _fleet_part(core.fleet, workers),
        _mesh_part(core.mesh),
        _keys_part(keys, tasks),
        _siblings_part(settings, core.siblings, resolve, tasks),
        ServerPart(name="placement", start=core.wishes.start, close=core.placer.close),
        ServerPart(name="parsing pool", close=pool.close),
        _readiness_part(server, settings.listen),
        ServerPart(name="lingering", drain=partial(asyncio.sleep, settings.linger_s)),
        task_health_part(tasks, core.gate, core.fleet.changes, set_serving=set_serving),
        metrics_part(metrics, settings.metrics_listen),
    ):
        server.add_part(part)
    return server


def _empty_server(settings: RouterSettings, metrics: CollectorRegistry, bodies: Bodies) -> Server:
    """A server for clients that has no services yet."""
    return Server(
        listen=settings.listen,
        drain_s=settings.drain_s,
        observers=(log_access, RpcMetrics(metrics)),
        limit=CallLimit(settings.max_calls, LIMITED_METHODS),
        access=client_access(identity_of(settings), reflection=settings.reflection),
        bodies=bodies,
    )


def _configured_workers(
    settings: RouterSettings, registry: Registry, resolve: Resolve, tasks: TaskSupervisor
) -> ConfiguredWorkers:
    return ConfiguredWorkers(
        registry,
        targets=settings.targets(),
        workers_file=Path(settings.workers_file) if settings.workers_file else None,
        resolve=resolve,
        resolve_interval_s=settings.resolve_interval_s,
        tasks=tasks,
    )


def _siblings_part(settings: RouterSettings, siblings: Siblings, resolve: Resolve, tasks: TaskSupervisor) -> ServerPart:
    """Finds the other routers, where settings give names for them."""
    named = NamedSiblings(
        siblings,
        targets=settings.sibling_targets(),
        resolve=resolve,
        resolve_interval_s=settings.resolve_interval_s,
        tasks=tasks,
    )
    return ServerPart(name="siblings", start=named.start, close=named.close)


def _add_admin_plane(
    server: Server,
    settings: RouterSettings,
    core: Core,
    *,
    everybody: Access,
    pool: ParsingPool,
    tensors: OpenInference,
    registry: Registry,
    operations: Operations,
    set_serving: Callable[[bool], Awaitable[None]],
) -> None:
    """Adds the address for operators and the mesh's own processes. Inference is offered there too, without API keys:
    a router in front of this one is such a process.
    """
    commands = operations.commands
    admin = AdminServicer(
        operations.listing,
        changes=core.fleet.changes,
        drainer=operations.drainer,
        registry=registry,
        registration_networks=settings.registration_networks,
        instance=operations.siblings.instance,
    )
    endpoint = EndpointServicer(commands, core.gate, set_serving=set_serving)
    access = mesh_access(identity_of(settings), settings.admin_listen, reflection=settings.reflection)
    plane = server.add_listener(settings.admin_listen, access)
    plane.add_service(SERVICE, inference_handlers(make_inference(settings, core, everybody, pool)))
    tensors.add_to_operators(plane, everybody, commands)
    add_AdminServiceServicer_to_server(admin, plane)
    add_EndpointServiceServicer_to_server(endpoint, plane)
    add_sibling_plane(plane, core, operations)


def _mesh_part(mesh: MeshFile) -> ServerPart:
    """Reloads mesh.yaml on SIGHUP. Without a file, SIGHUP ends the process as usual."""

    async def start() -> None:
        if mesh.path is not None:
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, mesh.reload)

    async def close() -> None:
        if mesh.path is not None:
            asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)

    return ServerPart(name="mesh.yaml", start=start, close=close)


def _keys_part(keys: FollowedKeys, tasks: TaskSupervisor) -> ServerPart:
    async def start() -> None:
        await keys.load()
        tasks.start("API keys", keys.run)

    return ServerPart(name="API keys", start=start)


def _fleet_part(fleet: Fleet, workers: ConfiguredWorkers) -> ServerPart:
    async def close() -> None:
        await workers.close()
        await fleet.close()

    return ServerPart(name="fleet", start=workers.start, close=close)


def _readiness_part(server: Server, listen: str) -> ServerPart:
    """Marks the router ready as soon as it listens: without a ready endpoint it answers UNAVAILABLE itself."""

    async def tell() -> None:
        await server.set_serving(True)
        host, _ = split_host_port(listen)
        _log.info("ready", extra={"listen": join_host_port(host, server.port)})

    return ServerPart(name="readiness", listening=tell)
