"""Makes the bodies of /v1/models from the router's health report."""

from typing import Any

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.sampling import show_sampling
from infermesh_runtime.errors import ModelNotFound


def list_models(report: pb.HealthReport) -> dict[str, Any]:
    """The body of /v1/models: the models that can answer now or once they are loaded."""
    return {"object": "list", "data": list(_models(report).values())}


def find_model(report: pb.HealthReport, name: str) -> dict[str, Any]:
    """The body of /v1/models/NAME. Raises ModelNotFound."""
    models = _models(report)
    if name not in models:
        available = ", ".join(models) or "none"
        raise ModelNotFound(
            f"The model '{name}' does not exist; available: {available}.",
            metadata={"model": name, "available": ",".join(models)},
            fields={"model": f"available: {available}"},
        )
    return models[name]


def _models(report: pb.HealthReport) -> dict[str, dict[str, Any]]:
    """The ready models and, if an endpoint is ready, those that could be loaded; sorted by name."""
    defaults = {model.name: model.defaults for model in report.available}
    found = {
        model.name: _describe(model, defaults.get(model.name))
        for model in report.models
        if model.state == pb.ENDPOINT_STATE_READY
    }
    if report.state == pb.ENDPOINT_STATE_READY:
        for model in report.available:
            found.setdefault(model.name, _describe(model, model.defaults))
    return dict(sorted(found.items()))


def _describe(model: pb.ModelStatus | pb.AvailableModel, defaults: pb.GenerationDefaults | None) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created_at.seconds,
        "owned_by": "infermesh",
        "max_model_len": model.context_length,  # as vLLM names it
        "sampling_defaults": show_sampling(defaults) if defaults is not None else {},
    }
