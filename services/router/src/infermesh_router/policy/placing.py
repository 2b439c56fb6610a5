"""Picks the endpoint on which to load a model that no endpoint has ready.

Reasons of a placement:
  loading            the endpoint is loading the model already
  named_endpoint     the request named the endpoint as its device
  device_preference  it is on the device that the model's rule in mesh.yaml prefers
  size_rule          it is on the device that models of this size prefer
  memory_free        the model fits into its free memory
  evicts_idle        the model fits once idle models are unloaded
  gpu_unavailable    it is a CPU, though the model prefers the GPU
"""

from collections.abc import Sequence
from dataclasses import dataclass

from infermesh_router.policy.filters import can_load, refuse_model
from infermesh_router.policy.refusals import ModelDoesNotFit
from infermesh_router.policy.snapshot import DeviceKind, EndpointSnapshot, Wanted
from infermesh_router.policy.speed import finish_ranks
from infermesh_runtime.errors import InfermeshError

LOADING = "loading"
_GPUS = frozenset({DeviceKind.XPU, DeviceKind.CUDA})


@dataclass(frozen=True, slots=True)
class Placement:
    """Where to load a model, and why there."""

    address: str
    reason: str


def place(endpoints: Sequence[EndpointSnapshot], wanted: Wanted) -> Placement:
    """Where to load `wanted.model`.

    Candidates can load it, are on the requested device and have the memory. We take one that is loading it already;
    else the preferred device first, then free memory before memory that must be freed, then the endpoint that would
    finish a request first (see `speed.finish_ranks`).
    An endpoint that does not report its memory counts as large enough: it refuses the load itself if it is not.

    Raises ModelNotFound, DeviceNotAvailable, Unavailable, and ModelDoesNotFit with the memory needed and available.
    """
    able = [e for e in endpoints if can_load(e, wanted)]
    if not able:
        raise refuse_model(endpoints, wanted)
    for endpoint in able:
        if wanted.model in endpoint.models:
            return Placement(endpoint.address, LOADING)
    fitting = [e for e in able if _fits(e, wanted.model)]
    if not fitting:
        raise _refuse_size(able, wanted.model)
    finish = finish_ranks(fitting, wanted.model)
    best = min(fitting, key=lambda e: (*_rank(e, wanted), *finish[e.address], e.in_flight, e.address))
    return Placement(best.address, _reason(best, fitting, wanted))


def _rank(endpoint: EndpointSnapshot, wanted: Wanted) -> tuple[bool, bool]:
    """Sort key for device and memory: smaller is better."""
    return (
        bool(wanted.preferred_device) and not _is_preferred(endpoint, wanted),
        not _fits_free(endpoint, wanted.model),
    )


def _is_preferred(endpoint: EndpointSnapshot, wanted: Wanted) -> bool:
    return endpoint.device in (_GPUS if wanted.preferred_device == "gpu" else {DeviceKind.CPU})


def _fits_free(endpoint: EndpointSnapshot, model: str) -> bool:
    return not endpoint.memory_total_bytes or endpoint.available[model] <= endpoint.memory_free_bytes


def _fits(endpoint: EndpointSnapshot, model: str) -> bool:
    return _fits_free(endpoint, model) or endpoint.available[model] <= _free_at_best(endpoint)


def _free_at_best(endpoint: EndpointSnapshot) -> int:
    return endpoint.memory_free_bytes + endpoint.evictable_bytes


def _reason(best: EndpointSnapshot, fitting: Sequence[EndpointSnapshot], wanted: Wanted) -> str:
    if best.address == wanted.device:
        return "named_endpoint"
    if wanted.preferred_device == "gpu" and best.device is DeviceKind.CPU:
        return "gpu_unavailable"
    if wanted.preferred_device and not all(_is_preferred(e, wanted) for e in fitting):
        return wanted.preference_reason
    return "memory_free" if _fits_free(best, wanted.model) else "evicts_idle"


def _refuse_size(able: Sequence[EndpointSnapshot], model: str) -> InfermeshError:
    best = max(able, key=lambda e: _free_at_best(e) - e.available[model])
    needed, free = best.available[model], _free_at_best(best)
    return ModelDoesNotFit(
        f"The model '{model}' needs {needed / 1e9:.2f} GB of memory, but at most {free / 1e9:.2f} GB can be freed: on "
        f"{best.address}, which has {best.memory_total_bytes / 1e9:.2f} GB in total. Unload another model, or add an "
        "endpoint with more memory.",
        metadata={
            "model": model,
            "needed_bytes": str(needed),
            "free_bytes": str(free),
            "endpoint": best.address,
        },
    )
