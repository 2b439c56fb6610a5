"""Makes the body of /props, from which user interfaces written for llama.cpp read what a model can do.

It has those fields of llama.cpp that are true of a mesh. No path of a file is told, nor the chat template, which only
workers have.
"""

from typing import Any

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.openai.errors import invalid
from infermesh_router.openai.models import Aliases, find_model, list_models
from infermesh_router.openai.sampling import show_sampling
from infermesh_router.requests.neutral import NEUTRAL
from infermesh_runtime.manifest.model_kind import GENERATE

_RANDOM_SEED = 0xFFFFFFFF
"""llama.cpp's seed of requests that name none."""
_NO_LIMIT = -1
_NAMES = {"repetition_penalty": "repeat_penalty"}


def show_props(report: pb.HealthReport, asked: str, aliases: Aliases) -> dict[str, Any]:
    """The body for the model that was asked for; without a name, for the only one, or the only one that is loaded.

    Raises ModelNotFound, and InvalidArgument if several models could be meant.
    """
    model = find_model(report, asked or _only_model(report, aliases), aliases)
    name = model["id"]
    targets = {name, *aliases.get(name, ())}
    slots = sum(status.load.max_running for status in report.models if status.name in targets)
    props = {
        "default_generation_settings": {"n_ctx": model["max_model_len"], "params": _params(model["sampling_defaults"])},
        "model_alias": name,
        "model_path": name,
        "modalities": {"vision": bool(model["capabilities"]["images"]), "audio": False},
        "build_info": f"infermesh {report.version}",
        "is_sleeping": not model["loaded"],
    }
    return props | ({"total_slots": slots} if slots else {})


def _params(defaults: dict[str, float]) -> dict[str, Any]:
    """The sampling parameters of requests that name none, by llama.cpp's names."""
    limit = defaults.get("max_tokens", _NO_LIMIT)
    shown = {**show_sampling(pb.GenerationDefaults(sampling=NEUTRAL)), **defaults, "max_tokens": limit}
    params = {_NAMES.get(name, name): value for name, value in shown.items()}
    return params | {"n_predict": limit, "seed": _RANDOM_SEED, "stop": []}


def _only_model(report: pb.HealthReport, aliases: Aliases) -> str:
    listed = (model for model in list_models(report, aliases)["data"] if model["kind"] == GENERATE)
    models = [model for model in listed if not model["alias_of"]]
    loaded = [model for model in models if model["loaded"]]
    for found in (models, loaded):
        if len(found) == 1:
            return str(found[0]["id"])
    names = ", ".join(model["id"] for model in models) or "none"
    raise invalid("model", f"is required, as in /props?model=NAME; available: {names}")
