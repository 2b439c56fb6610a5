"""Makes the bodies of /api/tags, /api/show and /api/ps from the router's health report."""

from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.reports.kinds import KINDS
from infermesh_router.ollama.listing.names import with_tag, without_tag
from infermesh_router.openai.models import Aliases, find_model, list_models
from infermesh_runtime.manifest.model_kind import GENERATE

_FAMILY = "infermesh"
"""Stands for the architecture, which reports do not tell: clients look for the context length under its name."""
_FOREVER_S = 100 * 365 * 86400.0
_PARAMETERS = {"repetition_penalty": "repeat_penalty", "max_tokens": "num_predict"}


def list_tags(report: pb.HealthReport, aliases: Aliases) -> dict[str, Any]:
    """The body of /api/tags: the models that can answer, at once or after loading."""
    return {"models": [_entry(model) for model in list_models(report, aliases)["data"]]}


def show_model(report: pb.HealthReport, name: str, aliases: Aliases) -> dict[str, Any]:
    """The body of /api/show. Raises ModelNotFound."""
    model = find_model(report, known_name(report, name), aliases)
    parameters = [f"{_PARAMETERS.get(key, key)} {value}" for key, value in model["sampling_defaults"].items()]
    file = ["# Served by infermesh", f"FROM {model['id']}", *(f"PARAMETER {line}" for line in parameters)]
    return {
        "modelfile": "\n".join(file),
        "parameters": "\n".join(parameters),
        "template": "",
        "details": _DETAILS,
        "model_info": {
            "general.architecture": _FAMILY,
            "general.basename": model["id"],
            f"{_FAMILY}.context_length": model["max_model_len"],
        },
        "capabilities": _capabilities(report, model["id"]),
        "modified_at": _time(model["created"]),
    }


def list_running(
    report: pb.HealthReport, *, aliases: Collection[str], on_accelerator: Callable[[str], bool]
) -> dict[str, Any]:
    """The body of /api/ps: the models that are loaded, and until when they stay if nobody asks for them."""
    ready = [m for m in report.models if m.state == pb.ENDPOINT_STATE_READY and m.name not in aliases]
    return {"models": [_running(model, on_accelerator(model.name)) for model in ready]}


def known_name(report: pb.HealthReport, name: str) -> str:
    """The model's name in the mesh, for one that may have Ollama's tag."""
    return name if name in model_names(report) else without_tag(name)


def model_names(report: pb.HealthReport) -> set[str]:
    """The names of all models, aliases included."""
    return {model.name for model in report.models} | {model.name for model in report.available}


def _entry(model: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": with_tag(model["id"]),
        "model": with_tag(model["id"]),
        "modified_at": _time(model["created"]),
        "size": model["size_bytes"],
        "digest": _digest(model["id"], model["created"], model["size_bytes"]),
        "details": _DETAILS,
    }


def _running(model: pb.ModelStatus, on_accelerator: bool) -> dict[str, Any]:
    described = {"id": model.name, "created": model.created_at.seconds, "size_bytes": model.size_bytes}
    entry = _entry(described) | {
        "size": model.memory_bytes or model.size_bytes,
        "size_vram": model.memory_bytes if on_accelerator else 0,
        "expires_at": _show(_expiry(model)),
        "context_length": model.context_length,
    }
    del entry["modified_at"]
    return entry


def _expiry(model: pb.ModelStatus) -> datetime:
    """When the model is unloaded if no request comes. One that stays has a date far away, as with Ollama."""
    now = datetime.now(UTC)
    if model.pinned or not 0 < model.keep_alive_s < _FOREVER_S:
        return now + timedelta(seconds=_FOREVER_S)
    idle = model.HasField("last_used_at") and not model.sequences
    since = model.last_used_at.ToDatetime(UTC) if idle else now
    return since + timedelta(seconds=model.keep_alive_s)


def _capabilities(report: pb.HealthReport, name: str) -> list[str]:
    """What the model can do. Until a model was loaded it may not be known whether it calls tools; then it may: clients
    offer none to a model without the capability, while one that takes none refuses them.
    """
    model = next((model for model in report.available if model.name == name), pb.AvailableModel())
    style, chats = model.answer_style, not model.HasField("has_chat_template") or model.has_chat_template
    tools = bool(style.tool_format) if model.HasField("answer_style") else chats
    kind = KINDS.get(model.kind)
    if kind != GENERATE:
        return ["embedding"] if kind == "embed" else []
    found = {"completion": True, "tools": tools, "vision": model.takes_images, "thinking": bool(style.reasoning)}
    return [capability for capability, has in found.items() if has]


def _digest(name: str, created: int, size_bytes: int) -> str:
    """Tells versions of a model apart: it changes with each import."""
    return sha256(f"{name}\0{created}\0{size_bytes}".encode()).hexdigest()


def _time(unix_s: int) -> str:
    return _show(datetime.fromtimestamp(unix_s, UTC))


def _show(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


_DETAILS = {
    "parent_model": "",
    "format": "",
    "family": _FAMILY,
    "families": [_FAMILY],
    "parameter_size": "",
    "quantization_level": "",
}
