"""Owns which endpoints may answer a request, and what to say when none may. Pure: snapshots in, snapshots out.

A filter is two functions: `keep` gives the endpoints that pass, `refuse` the error when none of a non-empty set did.
They are applied in the order of FILTERS, each on what the one before left.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from infermesh_router.snapshot import DeviceKind, EndpointSnapshot, Wanted
from infermesh_runtime.errors import DeviceNotAvailable, InfermeshError, InvalidArgument, ModelNotFound, Unavailable

Endpoints = Sequence[EndpointSnapshot]

RETRY_AFTER_S = 1.0
"""What a client is told to wait when nothing is ready: workers reconnect within about this time."""

_GPUS = frozenset({DeviceKind.XPU, DeviceKind.CUDA})
_DEVICES: dict[str, frozenset[DeviceKind]] = {
    "gpu": _GPUS,
    "cpu": frozenset({DeviceKind.CPU}),
    "xpu": frozenset({DeviceKind.XPU}),
    "cuda": frozenset({DeviceKind.CUDA}),
}


@dataclass(frozen=True, slots=True)
class Filter:
    """One rule about who may answer."""

    name: str
    keep: Callable[[Endpoints, Wanted], list[EndpointSnapshot]]
    refuse: Callable[[Endpoints, Wanted], InfermeshError]
    """Called with the endpoints of which `keep` kept none."""


def keep_serving(endpoints: Endpoints, wanted: Wanted) -> list[EndpointSnapshot]:
    """Those that list the model; for an empty name, those that list any."""
    model = wanted.model
    if not model:
        return [e for e in endpoints if e.models]
    return [e for e in endpoints if model in e.models]


def refuse_model(endpoints: Endpoints, wanted: Wanted) -> InfermeshError:
    """ModelNotFound that lists the models; Unavailable while no endpoint has said what it serves."""
    models = list_models(endpoints)
    if not models:
        return Unavailable("No endpoint has its model loaded yet.", reason="NO_ENDPOINT", retry_after_s=RETRY_AFTER_S)
    available = ", ".join(models)
    return ModelNotFound(
        f"The model '{wanted.model}' does not exist; available: {available}.",
        metadata={"model": wanted.model, "available": ",".join(models)},
        fields={"model": f"available: {available}"},
    )


def keep_device(endpoints: Endpoints, wanted: Wanted) -> list[EndpointSnapshot]:
    """Those on the device asked for. An endpoint of unknown kind (a router) passes, and decides for itself."""
    device = wanted.device
    if not device or device == "auto":
        return list(endpoints)
    kinds = _DEVICES.get(device)
    if kinds is None:
        return [e for e in endpoints if e.address == device or e.device is DeviceKind.UNKNOWN]
    return [e for e in endpoints if e.device in kinds or e.device is DeviceKind.UNKNOWN]


def refuse_device(endpoints: Endpoints, wanted: Wanted) -> InfermeshError:
    """DeviceNotAvailable that names the devices there are."""
    kinds = sorted({str(e.device) for e in endpoints})
    addresses = sorted(e.address for e in endpoints)
    return DeviceNotAvailable(
        f"No endpoint with the model has the device '{wanted.device}'; there are: {', '.join(kinds)} "
        f"(endpoints {', '.join(addresses)}).",
        metadata={"device": wanted.device, "available": ",".join(kinds), "endpoints": ",".join(addresses)},
        fields={"device": f"available: {', '.join(kinds)}"},
    )


def keep_connected(endpoints: Endpoints, wanted: Wanted) -> list[EndpointSnapshot]:  # noqa: ARG001 - a filter's shape
    """Those whose health stream is up."""
    return [e for e in endpoints if e.connected]


def refuse_disconnected(endpoints: Endpoints, wanted: Wanted) -> InfermeshError:  # noqa: ARG001 - a filter's shape
    """Unavailable."""
    return Unavailable(
        f"No endpoint can be reached (of {len(endpoints)} known).", reason="NO_ENDPOINT", retry_after_s=RETRY_AFTER_S
    )


def keep_ready(endpoints: Endpoints, wanted: Wanted) -> list[EndpointSnapshot]:
    """Those that can answer with the model now."""
    model = wanted.model
    if not model:
        return [e for e in endpoints if e.ready_models]
    return [e for e in endpoints if model in e.ready_models]


def refuse_unready(endpoints: Endpoints, wanted: Wanted) -> InfermeshError:  # noqa: ARG001 - a filter's shape
    """Unavailable that names the states."""
    states = ", ".join(f"{e.address} {e.state}" for e in endpoints[:8])
    return Unavailable(f"No endpoint is ready ({states}).", reason="NO_ENDPOINT", retry_after_s=RETRY_AFTER_S)


def keep_untried(endpoints: Endpoints, wanted: Wanted) -> list[EndpointSnapshot]:
    """Those on which this request has not failed."""
    tried = wanted.tried
    return [e for e in endpoints if e.address not in tried] if tried else list(endpoints)


def refuse_tried(endpoints: Endpoints, wanted: Wanted) -> InfermeshError:  # noqa: ARG001 - a filter's shape
    """Unavailable."""
    return Unavailable(
        f"Failed on every endpoint that could serve it ({len(endpoints)}).",
        reason="NO_ENDPOINT",
        retry_after_s=RETRY_AFTER_S,
    )


FILTERS: tuple[Filter, ...] = (
    Filter("model", keep_serving, refuse_model),
    Filter("device", keep_device, refuse_device),
    Filter("connected", keep_connected, refuse_disconnected),
    Filter("ready", keep_ready, refuse_unready),
    Filter("untried", keep_untried, refuse_tried),
)


def check_ambiguity(endpoints: Endpoints, wanted: Wanted) -> None:
    """Raises InvalidArgument when no model is named and the endpoints that are left serve several."""
    if not wanted.model and len(models := list_models(endpoints)) > 1:
        raise InvalidArgument(
            f"Several models are served, name one of: {', '.join(models)}.", fields={"model": "is required"}
        )


def list_models(endpoints: Endpoints) -> list[str]:
    """Names of the models that the endpoints list, sorted."""
    return sorted(frozenset().union(*(e.models for e in endpoints)))
