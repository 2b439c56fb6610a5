"""What a key allows: the models, devices and priority of a call, and the models that it lists."""

from collections.abc import Collection, Mapping
from functools import lru_cache

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.requests.call import Call
from infermesh_runtime.api_keys import ApiKey
from infermesh_runtime.errors import PermissionDenied

_ALL = frozenset({"cpu", "xpu", "cuda"})
_KINDS: Mapping[str, frozenset[str]] = {
    "": _ALL,
    "auto": _ALL,
    "gpu": frozenset({"xpu", "cuda"}),
    **{kind: frozenset({kind}) for kind in _ALL},
}


def may_use(key: ApiKey, model: str) -> bool:
    """Whether the key allows the model or alias."""
    return not key.models or model in key.models


def permit(key: ApiKey, call: Call) -> Call:
    """The call, kept to the devices that the key allows. Raises PermissionDenied."""
    wanted = call.wanted
    if not may_use(key, wanted.model):
        raise _refusal(key, "model", wanted.model or "(none)", key.models)
    if wanted.priority > key.max_priority:
        raise PermissionDenied(
            f"The API key '{key.name}' does not allow this 'priority'. It allows at most {key.max_priority} over gRPC, "
            f"where larger is served first, and at least {-key.max_priority} over REST, where smaller is.",
            reason="PRIORITY_NOT_ALLOWED",
            fields={"priority": "is not allowed by the API key"},
        )
    return _on_allowed_device(key, call) if key.devices else call


def hide_models(key: ApiKey | None, report: pb.HealthReport) -> pb.HealthReport:
    """The report, without the models that the key does not allow."""
    if key is None or not key.models:
        return report
    seen = pb.HealthReport()
    seen.CopyFrom(report)
    del seen.models[:], seen.available[:]
    seen.models.extend(model for model in report.models if may_use(key, model.name))
    seen.available.extend(model for model in report.available if may_use(key, model.name))
    return seen


def _on_allowed_device(key: ApiKey, call: Call) -> Call:
    """A request for any device, or for a GPU, is narrowed. An endpoint's address is refused: its device may change."""
    device = call.wanted.device
    kept = _narrow(device, key.devices) if device in _KINDS else None
    if kept is None:
        raise _refusal(key, "device", device, key.devices)
    return call if kept == device else call.on_device(kept)


@lru_cache(maxsize=1024)
def _narrow(device: str, allowed: tuple[str, ...]) -> str | None:
    """The device to ask for, so that one of the allowed kinds answers; None if none of them is what was asked for."""
    asked = _KINDS[device]
    left = asked & frozenset[str]().union(*(_KINDS[name] for name in allowed))
    if not left:
        return None
    if left == asked:
        return device
    return "gpu" if left == _KINDS["gpu"] else ",".join(sorted(left))


def _refusal(key: ApiKey, field: str, value: str, allowed: Collection[str]) -> PermissionDenied:
    listed = ", ".join(allowed)
    return PermissionDenied(
        f"The API key '{key.name}' does not allow the {field} '{value}'; it allows: {listed}.",
        reason=f"{field.upper()}_NOT_ALLOWED",
        fields={field: f"allowed: {listed}"},
    )
