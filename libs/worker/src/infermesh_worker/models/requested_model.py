"""Owns which of a worker's models a request means, and what to say when none. Pure: names in, a name out."""

from collections.abc import Collection

from infermesh_runtime.errors import InvalidArgument, ModelNotFound, NotFound


def requested_model(name: str, loaded: Collection[str], available: Collection[str]) -> str:
    """The loaded model that a request names; the only one when it names none.

    Raises InvalidArgument when several could be meant, and NotFound: MODEL_NOT_LOADED for one that could be loaded.
    """
    if not name:
        return _only(loaded, available)
    if name in loaded:
        return name
    if name in available:
        raise NotFound(
            f"model {name!r} is available here but not loaded",
            reason="MODEL_NOT_LOADED",
            metadata={"model": name, "models": ", ".join(loaded)},
        )
    served = ", ".join(loaded) or "none"
    raise ModelNotFound(
        f"model {name!r} is not served here; served: {served}", metadata={"model": name, "models": served}
    )


def _only(loaded: Collection[str], available: Collection[str]) -> str:
    if len(loaded) == 1:
        return next(iter(loaded))
    if not loaded:
        names = ", ".join(available) or "none"
        raise NotFound(f"no model is loaded here; available: {names}", reason="MODEL_NOT_LOADED")
    problem = f"several models are served here, say which one: {', '.join(loaded)}"
    raise InvalidArgument(problem, fields={"model": problem})
