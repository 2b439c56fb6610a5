"""Resolves the model name of a request to one of the models that a worker hosts."""

from collections.abc import Collection

from infermesh_runtime.errors import InvalidArgument, ModelNotFound, NotFound


def resolve_model_name(name: str, hosted: Collection[str], available: Collection[str]) -> str:
    """The hosted model that a request names. Without a name it is the only hosted model.

    Raises InvalidArgument when there is no name and several models are hosted, NotFound (MODEL_NOT_LOADED) when the
    model could be loaded but is not, and ModelNotFound for an unknown model.
    """
    if not name:
        return _only(hosted, available)
    if name in hosted:
        return name
    loaded = ", ".join(hosted)
    if name in available:
        raise NotFound(
            f"Model {name!r} is available here but not loaded. Load it first, or use a loaded one: {loaded or 'none'}.",
            reason="MODEL_NOT_LOADED",
            metadata={"model": name, "models": loaded},
        )
    raise ModelNotFound(
        f"Model {name!r} is not served here. Models served here: {loaded or 'none'}.",
        metadata={"model": name, "models": loaded or "none"},
    )


def _only(hosted: Collection[str], available: Collection[str]) -> str:
    if len(hosted) == 1:
        return next(iter(hosted))
    if not hosted:
        names = ", ".join(available) or "none"
        raise NotFound(
            f"No model is loaded on this worker. Models that can be loaded: {names}.", reason="MODEL_NOT_LOADED"
        )
    names = ", ".join(hosted)
    raise InvalidArgument(
        f"Several models are served here. Set `model` to one of: {names}.",
        fields={"model": f"is required, because several models are served here: {names}"},
    )
