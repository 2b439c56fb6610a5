"""Assembles a router from its parts."""

import asyncio
import logging
import signal
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from infermesh.admin.v1.admin_pb2_grpc import add_AdminServiceServicer_to_server, add_EndpointServiceServicer_to_server
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.access.access import Access
from infermesh_router.access.keys_file import FollowedKeys
from infermesh_router.admission.admission import Admission
from infermesh_router.admission.gate import Gate
from infermesh_router.admission.sessions import Sessions
from infermesh_router.api.admin_servicer import AdminServicer
from infermesh_router.api.aggregate import combine_reports
from infermesh_router.api.endpoint_servicer import EndpointServicer
from infermesh_router.api.inference_servicer import SERVICE, InferenceServicer, inference_handlers
from infermesh_router.api.listing import Listing
from infermesh_router.api.task_health import add_task_problems, serving_unless_disabled, task_health_part
from infermesh_router.config.body_options import body_budget, body_rules, request_bounds
from infermesh_router.config.mesh_config import MeshConfig
from infermesh_router.config.mesh_file import MeshFile
from infermesh_router.config.mesh_rules import admission_limits, alias_targets, chooser_rules, retention
from infermesh_router.config.settings import RouterSettings
from infermesh_router.fleet.channel import open_channel
from infermesh_router.fleet.drainer import Drainer
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.fleet.poller import PollerOptions, ReconnectPace, poll
from infermesh_router.membership.configured_workers import ConfiguredWorkers
from infermesh_router.membership.registry import Registry
from infermesh_router.membership.resolver import Resolve, resolve_with_dns
from infermesh_router.membership.target import join_host_port
from infermesh_router.metrics.access_metrics import AccessMetrics
from infermesh_router.metrics.endpoint_collector import EndpointCollector
from infermesh_router.metrics.queue_collector import QueueCollector
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.openai.conversion import BodyConverter
from infermesh_router.openai.servicer import SERVICE as OPENAI_SERVICE
from infermesh_router.openai.servicer import OpenAIServicer, openai_handlers
from infermesh_router.placement.model_commands import ModelCommands
from infermesh_router.placement.placer import Placer
from infermesh_router.placement.wish_keeper import WishKeeper
from infermesh_router.policy.choice import choose
from infermesh_router.policy.chooser import Chooser
from infermesh_router.relay.dispatcher import Dispatcher
from infermesh_router.requests.aliases import Aliases
from infermesh_router.requests.parsing_pool import ParsingPool
from infermesh_router.requests.reader import RequestReader
from infermesh_runtime.background.task_metrics import TaskCollector
from infermesh_runtime.background.tasks import TaskSupervisor
from infermesh_runtime.machine import usable_processors
from infermesh_runtime.metrics import RpcMetrics, metrics_part, new_registry
from infermesh_runtime.rpc.call_limit import CallLimit
from infermesh_runtime.rpc.identity import client_access, identity_of, mesh_access
from infermesh_runtime.rpc.interceptor import log_access
from infermesh_runtime.rpc.server import Server, ServerPart
from infermesh_runtime.settings import split_host_port

_log = logging.getLogger(__name__)

LIMITED_METHODS = frozenset(
    {
        *(f"/{SERVICE}/{name}" for name in ("Generate", "Embed", "Infer")),
        *(f"/infermesh.openai.v1.OpenAIService/{name}" for name in ("CreateChatCompletion", "CreateCompletion")),
    }
)
"""Methods whose calls count for INFERMESH_MAX_CALLS. Health, metrics and operators always get through."""


def build_server(
    settings: RouterSettings, *, resolve: Resolve = resolve_with_dns, tasks: TaskSupervisor | None = None
) -> Server:
    """Builds a router's server, ready to start. `resolve` turns DNS names into addresses. Raises MeshConfigError."""
    metrics, tasks = new_registry(), tasks or TaskSupervisor()
    metrics.register(TaskCollector(tasks))
    mesh = MeshFile(Path(settings.mesh_config) if settings.mesh_config else None)
    chooser, aliases = Chooser(), Aliases()
    mesh.follow(partial(_apply_config, chooser, aliases))
    fleet = build_fleet(settings, on_cache_lost=chooser.prefixes.forget, tasks=tasks)
    gate = Gate(fleet.changes)
    metrics.register(EndpointCollector(lambda: fleet.endpoints))
    router_metrics, sessions = RequestMetrics(metrics), Sessions()
    placer = Placer(
        fleet,
        place=chooser.place,
        metrics=router_metrics,
        retention=lambda model: retention(mesh.config, model),
        tasks=tasks,
    )
    wishes = WishKeeper(fleet, placer, tasks=tasks)
    admission = Admission(
        fleet,
        choose=chooser,
        metrics=router_metrics,
        sessions=sessions,
        loader=placer,
        limits=lambda model: admission_limits(mesh.config, model),
        tasks=tasks,
        most_bytes=int(settings.queue_bytes) if settings.queue_bytes else None,
    )
    metrics.register(QueueCollector(admission.queues))
    make_report = _reporter(fleet, gate, admission, aliases, tasks)
    dispatcher = Dispatcher(
        admission,
        fleet=fleet,
        choose=choose,
        metrics=router_metrics,
        sessions=sessions,
        gate=gate,
        options=settings.relay_options(),
        resolve=aliases.resolve,
        tasks=tasks,
    )
    server = Server(
        listen=settings.listen,
        drain_s=settings.drain_s,
        observers=(log_access, RpcMetrics(metrics)),
        limit=CallLimit(settings.max_calls, LIMITED_METHODS),
        access=client_access(identity_of(settings), reflection=settings.reflection),
        bodies=body_budget(settings),
    )
    keys = FollowedKeys(settings.keys_path(), required=bool(settings.keys_file))
    access_metrics = AccessMetrics(metrics)
    access = Access(keys, access_metrics, routers=settings.router_count)
    pool = ParsingPool(processes=min(2, usable_processors()))
    reader = RequestReader(pool, request_bounds(settings))
    inference = InferenceServicer(
        dispatcher, access=access, reader=reader, changes=fleet.changes, make_report=make_report
    )
    server.add_service(SERVICE, inference_handlers(inference))
    registry = Registry(fleet.set_addresses)
    listing = Listing(fleet, source_of=registry.source_of, stats=router_metrics.by_endpoint, queues=admission.queues)
    drainer = Drainer(fleet, dispatcher.move_streams)
    admin = AdminServicer(
        listing,
        changes=fleet.changes,
        drainer=drainer,
        registry=registry,
        registration_networks=settings.registration_networks,
    )
    set_serving = serving_unless_disabled(server.set_serving, tasks)
    commands = ModelCommands(fleet, placer, wishes=wishes, aliases=aliases.models)
    endpoint_servicer = EndpointServicer(commands, gate, set_serving=set_serving)
    everybody = Access(FollowedKeys(None), access_metrics, routers=settings.router_count)
    inner = InferenceServicer(
        dispatcher, access=everybody, reader=reader, changes=fleet.changes, make_report=make_report
    )
    _add_admin_plane(server, settings, inner, admin, endpoint_servicer)
    converter = BodyConverter(pool, body_rules(settings))
    openai = OpenAIServicer(dispatcher, access=access, make_report=make_report, registry=metrics, converter=converter)
    server.add_service(OPENAI_SERVICE, openai_handlers(openai))
    workers = ConfiguredWorkers(
        registry,
        targets=settings.targets(),
        workers_file=Path(settings.workers_file) if settings.workers_file else None,
        resolve=resolve,
        resolve_interval_s=settings.resolve_interval_s,
        tasks=tasks,
    )
    server.add_part(ServerPart(name="background tasks", close=tasks.close))
    server.add_part(_fleet_part(fleet, workers))
    server.add_part(_mesh_part(mesh))
    server.add_part(_keys_part(keys, tasks))
    server.add_part(ServerPart(name="placement", start=wishes.start, close=placer.close))
    server.add_part(ServerPart(name="parsing pool", close=pool.close))
    server.add_part(_readiness_part(server, settings.listen))
    server.add_part(task_health_part(tasks, gate, fleet.changes, set_serving=set_serving))
    server.add_part(metrics_part(metrics, settings.metrics_listen))
    return server


def build_fleet(
    settings: RouterSettings, *, on_cache_lost: Callable[[str], None], tasks: TaskSupervisor | None = None
) -> Fleet:
    """Builds a fleet that connects to endpoints and polls them as the settings say."""
    options = PollerOptions(connect_timeout_s=settings.connect_timeout_s, backoff_max_s=settings.reconnect_max_s)
    connect: Callable[[str], grpc.aio.Channel] = partial(
        open_channel,
        identity=identity_of(settings),
        keepalive_s=settings.keepalive_s,
        keepalive_timeout_s=settings.keepalive_timeout_s,
        reconnect_max_s=settings.reconnect_max_s,
    )
    return Fleet(
        open_channel=connect,
        poll=partial(poll, options=options, pace=ReconnectPace()),
        breaker=settings.breaker_options(),
        on_cache_lost=on_cache_lost,
        tasks=tasks,
    )


def _add_admin_plane(
    server: Server,
    settings: RouterSettings,
    inference: InferenceServicer,
    admin: AdminServicer,
    endpoint: EndpointServicer,
) -> None:
    """Adds the address for operators and the mesh's own processes. Inference is offered there too, without API keys:
    a router in front of this one is such a process.
    """
    if not settings.admin_listen:
        return
    access = mesh_access(identity_of(settings), settings.admin_listen, reflection=settings.reflection)
    plane = server.add_listener(settings.admin_listen, access)
    plane.add_service(SERVICE, inference_handlers(inference))
    add_AdminServiceServicer_to_server(admin, plane)
    add_EndpointServiceServicer_to_server(endpoint, plane)


def _reporter(
    fleet: Fleet, gate: Gate, admission: Admission, aliases: Aliases, tasks: TaskSupervisor
) -> Callable[[], pb.HealthReport]:
    started_at = Timestamp()
    started_at.GetCurrentTime()
    own_version = version("infermesh-router")

    def report() -> pb.HealthReport:
        combined = combine_reports(
            fleet.endpoints,
            version=own_version,
            started_at=started_at,
            queued=admission.waiting,
            aliases=aliases.models(),
        )
        if gate.draining:
            combined.state, combined.message = pb.ENDPOINT_STATE_DRAINING, "an operator is draining the router"
        add_task_problems(combined, tasks)
        return combined

    return report


def _apply_config(chooser: Chooser, aliases: Aliases, config: MeshConfig) -> None:
    chooser.rules = chooser_rules(config)
    aliases.targets = alias_targets(config)


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
