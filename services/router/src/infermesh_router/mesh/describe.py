"""Describes endpoints and queues as MeshService shows them: flat, with words instead of numbers of enums."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from infermesh.admin.v1 import admin_pb2 as admin
from infermesh.inference.v1 import inference_pb2 as inference
from infermesh.mesh.v1 import mesh_pb2 as pb
from infermesh_router.fleet.device_names import KnownDevices, name_devices
from infermesh_router.fleet.reports.kinds import KINDS
from infermesh_router.fleet.reports.report import DEVICES
from infermesh_router.policy.snapshot import DeviceKind

UNREACHABLE, UNKNOWN = "unreachable", "unknown"
STATES: Mapping[int, str] = {
    inference.ENDPOINT_STATE_LOADING: "loading",
    inference.ENDPOINT_STATE_READY: "ready",
    inference.ENDPOINT_STATE_DRAINING: "draining",
    inference.ENDPOINT_STATE_FAILED: "failed",
}
BREAKERS: Mapping[int, str] = {
    admin.BREAKER_STATE_CLOSED: "closed",
    admin.BREAKER_STATE_OPEN: "open",
    admin.BREAKER_STATE_HALF_OPEN: "half_open",
}
MayUse = Callable[[str], bool]
"""Whether a caller may use a model, and so see it."""


def describe_endpoints(
    listed: Sequence[admin.Endpoint], may_use: MayUse, known: KnownDevices | None = None
) -> list[pb.Endpoint]:
    """The endpoints as a caller sees them. `known`: the devices of those that have not reported yet."""
    known = known or KnownDevices()
    names = name_devices([known.note(endpoint.address, _kind(endpoint)) for endpoint in listed])
    return [_describe(endpoint, name, may_use) for endpoint, name in zip(listed, names, strict=True)]


def describe_queues(listed: Iterable[admin.ModelQueue], limit: Callable[[str], int], may_use: MayUse) -> list[pb.Queue]:
    """The queues as a caller sees them. `limit`: the most requests that may wait for a model."""
    return [
        pb.Queue(model=queue.model, waiting=queue.waiting, oldest_s=queue.oldest_ms / 1000, limit=limit(queue.model))
        for queue in listed
        if may_use(queue.model)
    ]


def state_of(*, connected: bool, report: inference.HealthReport | None) -> str:
    """The state of an endpoint, in a word."""
    if report is None:
        return UNKNOWN
    return STATES.get(report.state, UNKNOWN) if connected else UNREACHABLE


def _kind(endpoint: admin.Endpoint) -> str:
    return DEVICES.get(endpoint.report.device.kind, DeviceKind.UNKNOWN).value


def _describe(endpoint: admin.Endpoint, name: str, may_use: MayUse) -> pb.Endpoint:
    report = endpoint.report if endpoint.HasField("report") else None
    described = pb.Endpoint(
        address=endpoint.address,
        name=name,
        state=state_of(connected=endpoint.connected, report=report),
        message=endpoint.last_error,
        breaker=BREAKERS.get(endpoint.breaker, "closed"),
        drain_s=endpoint.seconds_to_drain,
        in_flight=endpoint.in_flight,
        failovers=endpoint.failovers,
        choices={reason: float(count) for reason, count in endpoint.choices.items()},
    )
    if report is not None:
        _add_report(described, report, may_use)
    return described


def _add_report(described: pb.Endpoint, report: inference.HealthReport, may_use: MayUse) -> None:
    device, load = report.device, report.load
    described.device.kind = DEVICES.get(device.kind, DeviceKind.UNKNOWN).value
    described.device.name = device.name
    described.device.memory_total_bytes = device.memory_total_bytes
    described.device.memory_free_bytes = device.memory_free_bytes
    described.runtime, described.version = report.runtime, report.version
    described.message = described.message or report.message
    described.running, described.waiting = load.running, load.waiting
    described.kv_cache_usage, described.generated_tokens = load.kv_cache_usage, load.generated_tokens
    described.prefill_tokens_per_s = load.prefill_tokens_per_s
    described.decode_tokens_per_s = load.decode_tokens_per_s
    if report.HasField("started_at"):
        described.started_at.CopyFrom(report.started_at)
    known = {each.name: each for each in report.available}
    loaded = {each.name: each for each in report.models}
    described.models.extend(_loaded_model(model, known.get(name)) for name, model in loaded.items() if may_use(name))
    described.available.extend(
        _available_model(model, loaded.get(name)) for name, model in known.items() if may_use(name)
    )


def _loaded_model(model: inference.ModelStatus, known: inference.AvailableModel | None) -> pb.Model:
    told = pb.Model(
        name=model.name,
        kind=KINDS.get(model.kind, UNKNOWN),
        state=STATES.get(model.state, UNKNOWN),
        size_bytes=model.size_bytes,
        memory_bytes=model.memory_bytes,
        context_length=model.context_length,
        sequences=model.sequences,
        pinned=model.pinned,
        load_fraction=model.load_fraction if model.HasField("load_fraction") else None,
        load_left_s=model.load_left_s if model.HasField("load_left_s") else None,
    )
    if known is not None:
        _add_abilities(told, known)
    return told


def _available_model(model: inference.AvailableModel, loaded: inference.ModelStatus | None) -> pb.Model:
    told = pb.Model(
        name=model.name,
        kind=KINDS.get(model.kind, UNKNOWN),
        state=STATES.get(loaded.state, UNKNOWN) if loaded is not None else "",
        size_bytes=model.size_bytes,
        memory_bytes=model.memory_bytes,
        context_length=model.context_length,
        pinned=loaded is not None and loaded.pinned,
    )
    _add_abilities(told, model)
    return told


def _add_abilities(told: pb.Model, known: inference.AvailableModel) -> None:
    """What only the list of models that can be loaded says."""
    told.takes_images = known.takes_images
    told.voices.extend(known.voices)
