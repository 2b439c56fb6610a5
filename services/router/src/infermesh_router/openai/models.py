"""Owns the answers of /v1/models. Knows no I/O."""

from collections.abc import Sequence
from typing import Any

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.errors import ModelNotFound


def list_models(models: Sequence[pb.ModelStatus]) -> dict[str, Any]:
    """The body of /v1/models: those that can answer."""
    return {"object": "list", "data": [_model(model) for model in models if model.state == pb.ENDPOINT_STATE_READY]}


def find_model(models: Sequence[pb.ModelStatus], name: str) -> dict[str, Any]:
    """The body of /v1/models/NAME. Raises ModelNotFound."""
    ready = {model.name: model for model in models if model.state == pb.ENDPOINT_STATE_READY}
    if name not in ready:
        available = ", ".join(sorted(ready)) or "none"
        raise ModelNotFound(
            f"The model '{name}' does not exist; available: {available}.",
            metadata={"model": name, "available": ",".join(sorted(ready))},
            fields={"model": f"available: {available}"},
        )
    return _model(ready[name])


def _model(model: pb.ModelStatus) -> dict[str, Any]:
    return {
        "id": model.name,
        "object": "model",
        "created": model.created_at.seconds,
        "owned_by": "infermesh",
        "max_model_len": model.context_length,  # vLLM's name
    }
