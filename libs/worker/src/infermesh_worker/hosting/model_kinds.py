"""Finds the models of a kind, and refuses calls that are for models of another kind."""

from collections.abc import Collection, Mapping

from infermesh_runtime.errors import InfermeshError, InvalidArgument, Unimplemented
from infermesh_runtime.manifest.model_kind import DOES, ModelKind
from infermesh_worker.hosting.hosted_model import HostedModel
from infermesh_worker.models.opened_model import OpenedModel


def of_kind(hosted: Mapping[str, HostedModel], kind: ModelKind | None) -> Collection[str]:
    """The names of the models of a kind, for a request that names none; all names if there are none of that kind."""
    found = [name for name, model in hosted.items() if model.opened.kind == kind]
    return found or list(hosted)


def wrong_kind(model: OpenedModel, wanted: ModelKind, hosts: Collection[ModelKind]) -> InfermeshError:
    """The error for a call that is for models of the kind `wanted`. `hosts`: the kinds that the worker can host."""
    metadata = {"model": model.name, "kind": model.kind}
    if wanted not in hosts:
        return Unimplemented(
            f"Model {model.name!r} {DOES[model.kind]}, and this worker runs no models of the kind that {DOES[wanted]}.",
            metadata=metadata,
        )
    problem = f"{model.name!r} {DOES[model.kind]}; this call needs a model that {DOES[wanted]}"
    return InvalidArgument(f"Model {problem}.", reason="MODEL_KIND", metadata=metadata, fields={"model": problem})
