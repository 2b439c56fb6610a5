"""Builds what carries requests, which every service of the router shares: fleet, policy, queues, placement, relay."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import grpc
from google.protobuf.timestamp_pb2 import Timestamp
from prometheus_client import CollectorRegistry

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.admission.admission import Admission
from infermesh_router.admission.gate import Gate
from infermesh_router.admission.queue_memory import queue_memory
from infermesh_router.admission.sessions import Sessions
from infermesh_router.api.aggregate import combine_reports
from infermesh_router.api.task_health import add_task_problems
from infermesh_router.config.mesh_config import MeshConfig
from infermesh_router.config.mesh_file import MeshFile
from infermesh_router.config.mesh_rules import admission_limits, alias_targets, chooser_rules, retention, share_of
from infermesh_router.config.settings import RouterSettings
from infermesh_router.fleet.channel import open_channel
from infermesh_router.fleet.device_names import KnownDevices, address_of
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.fleet.poller import PollerOptions, ReconnectPace, poll
from infermesh_router.fleet.reports.kinds import only_model
from infermesh_router.journal.journal import Journal
from infermesh_router.journal.receipts import Receipts
from infermesh_router.metrics.endpoint_collector import EndpointCollector
from infermesh_router.metrics.queue_collector import QueueCollector
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.placement.placer import Placer
from infermesh_router.placement.wish_keeper import WishKeeper
from infermesh_router.policy.choice import choose
from infermesh_router.policy.chooser import Chooser
from infermesh_router.policy.images import check_images
from infermesh_router.relay.dispatcher import Dispatcher
from infermesh_router.requests.aliases import Aliases
from infermesh_router.requests.call import Call
from infermesh_router.requests.unnamed import name_model
from infermesh_router.siblings.siblings import Siblings
from infermesh_runtime.background.tasks import TaskSupervisor
from infermesh_runtime.rpc.access import identity_of
from infermesh_runtime.rpc.channel import open_aio_channel
from infermesh_runtime.rpc.options import CHANNEL_OPTIONS


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """The parts that carry requests."""

    mesh: MeshFile
    aliases: Aliases
    fleet: Fleet
    devices: KnownDevices
    """By which endpoints are shown and named."""
    gate: Gate
    metrics: RequestMetrics
    placer: Placer
    wishes: WishKeeper
    admission: Admission
    dispatcher: Dispatcher
    journal: Journal
    receipts: Receipts
    siblings: Siblings
    """The other routers of the mesh."""
    make_report: Callable[[], pb.HealthReport]
    """The router's own health report."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Base:
    """What placement, queues and relay are built on."""

    settings: RouterSettings
    mesh: MeshFile
    fleet: Fleet
    devices: KnownDevices
    gate: Gate
    metrics: RequestMetrics
    sessions: Sessions
    siblings: Siblings
    journal: Journal
    receipts: Receipts
    tasks: TaskSupervisor


def build_core(settings: RouterSettings, registry: CollectorRegistry, tasks: TaskSupervisor) -> Core:
    """Builds the parts and registers their metrics. Raises MeshConfigError."""
    chooser, aliases = Chooser(), Aliases()
    base = _build_base(settings, registry, chooser, aliases, tasks)
    fleet, siblings = base.fleet, base.siblings
    placer = _build_placer(base, chooser)
    admission = _build_admission(base, chooser, placer)
    registry.register(EndpointCollector(lambda: fleet.endpoints))
    registry.register(QueueCollector(admission.queues))
    return Core(
        mesh=base.mesh,
        aliases=aliases,
        fleet=fleet,
        devices=base.devices,
        gate=base.gate,
        metrics=base.metrics,
        placer=placer,
        wishes=WishKeeper(fleet, placer, siblings=siblings, tasks=tasks),
        admission=admission,
        dispatcher=_build_dispatcher(base, aliases, admission),
        journal=base.journal,
        receipts=base.receipts,
        siblings=siblings,
        make_report=_reporter(fleet, base.gate, admission, aliases, tasks),
    )


def _build_base(
    settings: RouterSettings, registry: CollectorRegistry, chooser: Chooser, aliases: Aliases, tasks: TaskSupervisor
) -> _Base:
    mesh = MeshFile(Path(settings.mesh_config) if settings.mesh_config else None)
    mesh.follow(partial(_apply_config, chooser, aliases))
    fleet = build_fleet(settings, on_cache_lost=chooser.prefixes.forget, tasks=tasks)
    return _Base(
        settings=settings,
        mesh=mesh,
        fleet=fleet,
        devices=KnownDevices(),
        gate=Gate(fleet.changes),
        metrics=RequestMetrics(registry),
        sessions=Sessions(),
        siblings=build_siblings(settings),
        journal=Journal(),
        receipts=Receipts(most=settings.receipts, most_bytes=int(settings.receipts_bytes)),
        tasks=tasks,
    )


def _build_placer(base: _Base, chooser: Chooser) -> Placer:
    return Placer(
        base.fleet,
        place=chooser.place,
        metrics=base.metrics,
        retention=lambda model: retention(base.mesh.config, model),
        tasks=base.tasks,
    )


def _build_admission(base: _Base, chooser: Chooser, placer: Placer) -> Admission:
    mesh, siblings = base.mesh, base.siblings
    return Admission(
        base.fleet,
        choose=chooser,
        metrics=base.metrics,
        sessions=base.sessions,
        loader=placer,
        limits=lambda model: share_of(admission_limits(mesh.config, model), siblings.routers),
        tasks=base.tasks,
        journal=base.journal,
        most_bytes=queue_memory(base.settings.queue_bytes, siblings),
        routers=lambda: siblings.routers,
    )


def _build_dispatcher(base: _Base, aliases: Aliases, admission: Admission) -> Dispatcher:
    fleet = base.fleet
    return Dispatcher(
        admission,
        fleet=fleet,
        choose=choose,
        metrics=base.metrics,
        sessions=base.sessions,
        gate=base.gate,
        options=base.settings.relay_options(),
        resolve=_resolver(fleet, base.devices, aliases),
        check=lambda call: check_images(fleet.snapshots, call.wanted),
        tasks=base.tasks,
        journal=base.journal,
        receipts=base.receipts,
    )


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
        frames=settings.frames,
    )


def build_siblings(settings: RouterSettings) -> Siblings:
    """The other routers that the settings name."""
    options = (*CHANNEL_OPTIONS, *((f"grpc.{which}_reconnect_backoff_ms", 200) for which in ("initial", "min", "max")))
    return Siblings(
        settings.sibling_addresses(),
        partial(open_aio_channel, identity=identity_of(settings), options=options),
        named=bool(settings.sibling_targets()),
        at_least=settings.router_count,
    )


def _resolver(fleet: Fleet, devices: KnownDevices, aliases: Aliases) -> Callable[[Call], Call]:
    """Gives a call the model and the endpoint that it means."""

    def resolve(call: Call) -> Call:
        named = aliases.resolve(name_model(call, lambda kind: only_model(fleet.endpoints, kind)))
        asked = named.wanted.device
        device = address_of(asked, fleet, devices) if ":" in asked else asked
        return named if device == asked else named.on_device(device)

    return resolve


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
