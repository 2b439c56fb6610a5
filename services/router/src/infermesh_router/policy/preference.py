"""Finds the device that a model prefers, by its own rule or by the size rules."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from infermesh_router.policy.snapshot import DeviceKind, EndpointSnapshot

_GPUS = frozenset({DeviceKind.XPU, DeviceKind.CUDA})


@dataclass(frozen=True, slots=True)
class SizeRule:
    """Models smaller than a size prefer a device."""

    device: str
    """ "gpu" or "cpu"."""
    under_bytes: int | None = None
    """Size of the weights; None matches every size."""


DEFAULT_SIZE_RULES = (SizeRule("gpu", 8_000_000_000), SizeRule("cpu"))


@dataclass(frozen=True, slots=True)
class Preference:
    """The device that a model prefers, and which kind of rule says so; both empty for no preference."""

    device: str = ""
    reason: str = ""


def prefer(
    model: str, endpoints: Iterable[EndpointSnapshot], *, own: str = "", size_rules: Sequence[SizeRule]
) -> Preference:
    """What the model prefers. `own` is the device that the model's own rule names, "" if it has no such rule.

    Without one, the first size rule that matches the size of the weights decides; a model that fits into no
    accelerator's memory prefers the CPU all the same. A model whose size no endpoint reports prefers nothing.
    """
    if own:
        return Preference(own, "device_preference")
    knowing = [e for e in endpoints if model in e.model_sizes]
    if not knowing:
        return Preference()
    size_bytes = max(e.model_sizes[model] for e in knowing)
    for rule in size_rules:
        if rule.under_bytes is None or size_bytes < rule.under_bytes:
            device = "cpu" if rule.device == "gpu" and _fits_none(model, knowing) else rule.device
            return Preference(device, "size_rule")
    return Preference()


def _fits_none(model: str, endpoints: Iterable[EndpointSnapshot]) -> bool:
    """Whether some accelerators know the model, but none has it or is large enough for it."""
    accelerators = [e for e in endpoints if e.device in _GPUS]
    return bool(accelerators) and not any(_fits(model, e) for e in accelerators)


def _fits(model: str, endpoint: EndpointSnapshot) -> bool:
    needed = endpoint.available.get(model, endpoint.model_sizes[model])
    return model in endpoint.models or not endpoint.memory_total_bytes or needed <= endpoint.memory_total_bytes
