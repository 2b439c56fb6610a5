"""Filters: which endpoints may answer a request, and which error to raise if none may.

A filter has two functions. `keep` narrows the mask of the remaining endpoints; `refuse` makes the error for a filter
that removed all of them. Filters run in the order of FILTERS.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from infermesh_router.policy.images import keep_seeing, refuse_images, takes_images
from infermesh_router.policy.refusals import ModelNotLoaded, Recovering, Saturated
from infermesh_router.policy.snapshot import EndpointSnapshot, EndpointState, Wanted
from infermesh_router.policy.table import CPU_BITS, DEVICE_BITS, GPU_BITS, UNKNOWN_BITS, Mask, Table
from infermesh_runtime.errors import DeviceNotAvailable, InfermeshError, InvalidArgument, ModelNotFound, Unavailable

Endpoints = Sequence[EndpointSnapshot]

RETRY_AFTER_S = 1.0
"""How long clients are told to wait when nothing is ready; workers reconnect within about this time."""

_DEVICE_NAMES = {"gpu": GPU_BITS, "cpu": CPU_BITS, "xpu": 2, "cuda": 4}
_DEVICE_NAMES |= {f"cpu,{name}": CPU_BITS | _DEVICE_NAMES[name] for name in ("xpu", "cuda")}  # what a key may allow


@dataclass(frozen=True, slots=True, eq=False)
class Filter:
    """One rule about which endpoints may answer."""

    name: str
    keep: Callable[[Table, Mask, Wanted], Mask]
    refuse: Callable[[Endpoints, Wanted], InfermeshError]
    """Makes the error. Called with the endpoints that `keep` removed; never with none."""
    loading_helps: bool = False
    """Whether the error becomes ModelNotLoaded if another endpoint could load the model."""
    stable: bool = False
    """Whether `keep` depends only on the request's model and device, and on no load: its result can be cached."""


def keep_serving(table: Table, kept: Mask, wanted: Wanted) -> Mask:
    """Keeps endpoints that list the model; for an empty name, those that list any model."""
    return kept & table.serving(wanted.model)


def refuse_model(endpoints: Endpoints, wanted: Wanted) -> InfermeshError:
    """ModelNotFound with the models there are, or Unavailable while no endpoint has reported any model.

    If endpoints have the model on disk, the error says instead why none of them can load it: its device or its state.
    """
    if having := [e for e in endpoints if wanted.model in e.available]:
        seeing = [e for e in having if takes_images(e, wanted)]
        return _refuse_loading(seeing, wanted) if seeing else refuse_images(having, wanted)
    models = list_models(endpoints)
    if not models:
        return Unavailable(
            "No endpoint has loaded a model yet. Retry shortly.", reason="NO_ENDPOINT", retry_after_s=RETRY_AFTER_S
        )
    available = ", ".join(models)
    alias = f" (alias '{wanted.alias}')" if wanted.alias else ""
    return ModelNotFound(
        f"The model '{wanted.model}'{alias} does not exist; available: {available}.",
        metadata={"model": wanted.model, "available": ",".join(models)} | ({"alias": wanted.alias} if alias else {}),
        fields={"model": f"available: {available}"},
    )


def _refuse_loading(having: Endpoints, wanted: Wanted) -> InfermeshError:
    if not any(fits_device(e, wanted) for e in having):
        return refuse_device(having, wanted)
    states = ", ".join(f"{e.address} {e.state if e.connected else 'lost'}" for e in having[:8])
    return _unavailable(f"No endpoint can load the model '{wanted.model}' at the moment ({states}).")


def keep_device(table: Table, kept: Mask, wanted: Wanted) -> Mask:
    """Keeps endpoints on the requested device. One of unknown kind (a router) passes and decides for itself."""
    if _any_device(wanted):
        return kept
    bits = _DEVICE_NAMES.get(wanted.device)
    if bits is not None:
        return kept & table.on_device(bits | UNKNOWN_BITS)
    named = table.on_device(UNKNOWN_BITS)
    row = table.row(wanted.device)
    if row is not None:
        named[row] = True
    return kept & named


def refuse_device(endpoints: Endpoints, wanted: Wanted) -> InfermeshError:
    """DeviceNotAvailable with the devices there are."""
    kinds = sorted({str(e.device) for e in endpoints})
    addresses = sorted(e.address for e in endpoints)
    return DeviceNotAvailable(
        f"No endpoint with the model has the device '{wanted.device}'; available: {', '.join(kinds)} "
        f"(endpoints {', '.join(addresses)}).",
        metadata={"device": wanted.device, "available": ",".join(kinds), "endpoints": ",".join(addresses)},
        fields={"device": f"available: {', '.join(kinds)}"},
    )


def keep_connected(table: Table, kept: Mask, wanted: Wanted) -> Mask:  # noqa: ARG001 - a filter's shape
    """Keeps endpoints whose health stream is connected."""
    return kept & table.connected


def refuse_disconnected(endpoints: Endpoints, wanted: Wanted) -> InfermeshError:  # noqa: ARG001 - a filter's shape
    """Unavailable."""
    if len(endpoints) == 1:
        return _unavailable(f"Only {endpoints[0].address} could serve this request, and it cannot be reached.")
    return _unavailable(f"None of the {len(endpoints)} endpoints that could serve this request can be reached.")


def keep_ready(table: Table, kept: Mask, wanted: Wanted) -> Mask:
    """Keeps endpoints that can answer with the model now."""
    return kept & table.ready(wanted.model)


def refuse_unready(endpoints: Endpoints, wanted: Wanted) -> InfermeshError:  # noqa: ARG001 - a filter's shape
    """Unavailable with the endpoints' states."""
    states = ", ".join(f"{e.address} {e.state}" for e in endpoints[:8])
    return _unavailable(f"No endpoint is ready ({states}).")


def keep_unbroken(table: Table, kept: Mask, wanted: Wanted) -> Mask:  # noqa: ARG001 - a filter's shape
    """Keeps endpoints whose circuit breaker accepts requests."""
    return kept & table.usable


def refuse_broken(endpoints: Endpoints, wanted: Wanted) -> InfermeshError:  # noqa: ARG001 - a filter's shape
    """Unavailable."""
    if len(endpoints) == 1:
        only = endpoints[0].address
        return _unavailable(
            f"Only {only} could serve this request. It failed recently and has an open circuit breaker."
        )
    return _unavailable(
        f"All {len(endpoints)} endpoints that could serve the request failed recently and have an open circuit breaker."
    )


def keep_untried(table: Table, kept: Mask, wanted: Wanted) -> Mask:
    """Keeps endpoints on which this request has not failed yet."""
    if not wanted.tried:
        return kept
    untried = kept.copy()
    untried[[row for address in wanted.tried if (row := table.row(address)) is not None]] = False
    return untried


def refuse_tried(endpoints: Endpoints, wanted: Wanted) -> InfermeshError:  # noqa: ARG001 - a filter's shape
    """Unavailable."""
    return _unavailable(f"The request failed on every endpoint that could serve it ({len(endpoints)}).")


def keep_with_room(table: Table, kept: Mask, wanted: Wanted) -> Mask:
    """Keeps endpoints whose model has room for the request's sequences or is idle.

    A request larger than any room must run too.
    """
    if not kept.any():
        return kept
    with_room: Mask = kept & (table.loads(wanted.model).room >= wanted.sequences)
    return with_room


def refuse_full(endpoints: Endpoints, wanted: Wanted) -> InfermeshError:
    """Saturated."""
    soonest_s = min(e.drain_of(wanted.model)[0] for e in endpoints)
    return Saturated(
        f"All {len(endpoints)} endpoints that could serve this request are full.", retry_after_s=max(1, soonest_s)
    )


def keep_preferred(table: Table, kept: Mask, wanted: Wanted) -> Mask:
    """Keeps only accelerators if the GPU is preferred and does not overflow; keeps all if no accelerator is left."""
    if wanted.preferred_device != "gpu" or wanted.overflowing:
        return kept
    accelerators = kept & table.on_device(GPU_BITS | UNKNOWN_BITS)
    return accelerators if accelerators.any() else kept


FILTERS: tuple[Filter, ...] = (
    Filter("model", keep_serving, refuse_model, loading_helps=True, stable=True),
    Filter("images", keep_seeing, refuse_images, loading_helps=True),
    Filter("device", keep_device, refuse_device, loading_helps=True, stable=True),
    Filter("connected", keep_connected, refuse_disconnected, loading_helps=True, stable=True),
    Filter("ready", keep_ready, refuse_unready, loading_helps=True, stable=True),
    Filter("breaker", keep_unbroken, refuse_broken, loading_helps=True, stable=True),
    Filter("untried", keep_untried, refuse_tried),
    Filter("room", keep_with_room, refuse_full),
    Filter("overflow", keep_preferred, refuse_unready),  # never removes all
)


def explain_refusal(failed: Filter, table: Table, kept: Mask, wanted: Wanted) -> InfermeshError:
    """The error for a filter that removed all of `kept`: its own, or ModelNotLoaded if loading the model would help."""
    left = table.select(kept)
    starting = any(e.connected and e.state is EndpointState.LOADING and wanted.model in e.models for e in left)
    if failed.loading_helps and not starting and any(can_load(e, wanted) for e in table):
        return ModelNotLoaded(
            f"No endpoint that may serve this request has the model '{wanted.model}' loaded.",
            metadata={"model": wanted.model},
            retry_after_s=RETRY_AFTER_S,
        )
    refusal = failed.refuse(left, wanted)
    if isinstance(refusal, Saturated) or not any(recovers(e, wanted) for e in table):
        return refusal
    return Recovering(refusal.message, retry_after_s=RETRY_AFTER_S)


def recovers(endpoint: EndpointSnapshot, wanted: Wanted) -> bool:
    """Whether the endpoint will probably serve the request soon: it loads the model now, or is being probed."""
    e = endpoint
    may_serve = e.connected and e.address not in wanted.tried and _lists(e, wanted.model) and fits_device(e, wanted)
    if not may_serve or not takes_images(e, wanted):
        return False
    if e.probing:
        return e.state is EndpointState.READY
    return e.state is EndpointState.LOADING and not e.breaker_open


def _lists(endpoint: EndpointSnapshot, model: str) -> bool:
    return model in endpoint.models if model else bool(endpoint.models)


def can_load(endpoint: EndpointSnapshot, wanted: Wanted) -> bool:
    """Whether the endpoint is on the requested device and could load the model, memory aside, or is loading it."""
    e = endpoint
    takes = e.connected and e.state is EndpointState.READY and not e.breaker_open and e.address not in wanted.tried
    could = wanted.model in e.available and wanted.model not in e.ready_models
    return takes and could and fits_device(e, wanted) and takes_images(e, wanted)


def fits_device(endpoint: EndpointSnapshot, wanted: Wanted) -> bool:
    """`keep_device` for one endpoint."""
    if _any_device(wanted) or wanted.device == endpoint.address:
        return True
    return bool(DEVICE_BITS[endpoint.device] & (_DEVICE_NAMES.get(wanted.device, 0) | UNKNOWN_BITS))


def check_ambiguity(table: Table, kept: Mask, wanted: Wanted) -> None:
    """Raises InvalidArgument if the request names no model and the remaining endpoints serve several."""
    if wanted.model or len(table.models) <= 1:
        return
    models = sorted(frozenset().union(*(e.models for e in table.select(kept))))
    if len(models) > 1:
        raise InvalidArgument(
            f"The request names no model, and there are several; name one of: {', '.join(models)}.",
            fields={"model": "is required"},
        )


def list_models(endpoints: Endpoints) -> list[str]:
    """The names of all models that the endpoints list or could load, sorted."""
    return sorted(frozenset().union(*(e.models | e.available.keys() for e in endpoints)))


def _any_device(wanted: Wanted) -> bool:
    return not wanted.device or wanted.device == "auto"


def _unavailable(message: str) -> InfermeshError:
    return Unavailable(message, reason="NO_ENDPOINT", retry_after_s=RETRY_AFTER_S)
