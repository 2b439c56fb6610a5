"""Makes the bodies of /v1/models from the router's health report."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.reports.kinds import KINDS
from infermesh_router.openai.sampling import show_sampling
from infermesh_runtime.answer_parsing.formats.table import FORMATS
from infermesh_runtime.errors import ModelNotFound
from infermesh_runtime.manifest.model_kind import GENERATE, ModelKind

Aliases = Mapping[str, Iterable[str]]
"""Alias → the models that it stands for."""


@dataclass(frozen=True, slots=True)
class ModelDirectory:
    """Where models are, and by what other names."""

    aliases: Callable[[], Aliases]
    loaded_on: Callable[[str], list[str]]
    """The addresses of the endpoints on which a model is ready."""

    def find(self, report: pb.HealthReport, name: str) -> dict[str, Any]:
        """The body of /v1/models/NAME. Raises ModelNotFound."""
        aliases = self.aliases()
        found = find_model(report, name, aliases)
        targets = sorted(aliases.get(name, (name,)))
        return found | {"endpoints": sorted({address for target in targets for address in self.loaded_on(target)})}


def list_models(report: pb.HealthReport, aliases: Aliases | None = None) -> dict[str, Any]:
    """The body of /v1/models: the models that can answer now or once they are loaded."""
    return {"object": "list", "data": list(_models(report, aliases or {}).values())}


def find_model(report: pb.HealthReport, name: str, aliases: Aliases | None = None) -> dict[str, Any]:
    """One of the models of /v1/models. Raises ModelNotFound."""
    models = _models(report, aliases or {})
    if name not in models:
        available = ", ".join(models) or "none"
        raise ModelNotFound(
            f"The model '{name}' does not exist; available: {available}.",
            metadata={"model": name, "available": ",".join(models)},
            fields={"model": f"available: {available}"},
        )
    return models[name]


def _models(report: pb.HealthReport, aliases: Aliases) -> dict[str, dict[str, Any]]:
    """The ready models and, if an endpoint is ready, those that could be loaded; sorted by name."""
    on_disk = {model.name: model for model in report.available}
    found: dict[str, pb.ModelStatus | pb.AvailableModel] = {
        model.name: model for model in report.models if model.state == pb.ENDPOINT_STATE_READY
    }
    if report.state == pb.ENDPOINT_STATE_READY:
        found = {**on_disk, **found}
    return {name: _describe(found[name], on_disk.get(name), aliases) for name in sorted(found)}


def _describe(
    model: pb.ModelStatus | pb.AvailableModel, on_disk: pb.AvailableModel | None, aliases: Aliases
) -> dict[str, Any]:
    kind = KINDS.get(model.kind)
    return {
        "id": model.name,
        "object": "model",
        "created": model.created_at.seconds,
        "owned_by": "infermesh",
        "kind": kind,
        "max_model_len": model.context_length or None,  # as vLLM names it; null: it reads no text
        "sampling_defaults": show_sampling(on_disk.defaults) if on_disk is not None else {},
        "size_bytes": model.size_bytes,
        "loaded": isinstance(model, pb.ModelStatus),
        "capabilities": _capabilities(kind, on_disk),
        "aliases": sorted(alias for alias, targets in aliases.items() if model.name in targets),
        "alias_of": sorted(aliases.get(model.name, ())),
    }


def _capabilities(kind: ModelKind | None, on_disk: pb.AvailableModel | None) -> dict[str, bool | None]:
    """Which calls it answers, and how; None: not known."""
    generates = kind == GENERATE
    others = {"embeddings": kind == "embed", "rerank": kind == "rerank", "infer": kind == "infer"}
    calls = {"completions": generates, **others}
    if not generates:
        return {**calls, "chat_completions": False, "images": False, "tool_calls": False, "reasoning": False}
    chats = on_disk.has_chat_template if on_disk is not None and on_disk.HasField("has_chat_template") else None
    images = on_disk.takes_images if on_disk is not None and on_disk.HasField("takes_images") else None
    return {**calls, "chat_completions": chats, "images": images, **_answers(on_disk)}


def _answers(model: pb.AvailableModel | None) -> dict[str, bool | None]:
    """Whether it writes tool calls and reasoning in a way that we know; None: not known before it has answered."""
    if model is None or not model.HasField("answer_style"):
        return {"tool_calls": None, "reasoning": None}
    style = model.answer_style
    thinks = bool(style.reasoning) or (style.tool_format in FORMATS and FORMATS[style.tool_format].channels)
    return {"tool_calls": bool(style.tool_format), "reasoning": thinks}
