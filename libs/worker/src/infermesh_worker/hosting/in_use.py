"""Refuses to unload a model that is not loaded, or that requests are using."""

from infermesh_runtime.errors import FailedPrecondition, NotFound
from infermesh_worker.hosting.hosted_models import HostedModels


def check_unused(models: HostedModels, name: str, *, force: bool) -> None:
    """Raises NotFound for a model that is not loaded, and FailedPrecondition for one in use, unless `force` is set."""
    hosted = models.get(name)
    if hosted is None:
        raise NotFound(
            f"Model {name!r} is not loaded on this worker.", reason="MODEL_NOT_LOADED", metadata={"model": name}
        )
    if hosted.in_use and not force:
        raise FailedPrecondition(
            f"Model {name!r} is in use. Wait for its requests to finish, or set `force` (`--force`).",
            reason="MODEL_IN_USE",
            metadata={"model": name},
        )
