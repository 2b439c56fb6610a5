"""The policy's errors that the router can do something about: wait, load the model, or free memory."""

from infermesh_runtime.errors import ResourceExhausted, Unavailable


class Saturated(ResourceExhausted):
    """Every endpoint that could serve the request is full; one has room again when a sequence ends."""

    reason = "SATURATED"


class Recovering(Unavailable):
    """An endpoint that could serve the request is still loading, or a request that probes it is under way.

    The request may wait for it.
    """

    reason = "NO_ENDPOINT"


class ModelNotLoaded(Unavailable):
    """No endpoint has the model loaded, but at least one could load it. Metadata: `model`."""

    reason = "MODEL_NOT_LOADED"


class ModelDoesNotFit(ResourceExhausted):
    """No endpoint has enough memory for the model.

    Metadata: `model`, `needed_bytes`, `free_bytes` (the most that could be freed) and `endpoint` (where).
    """

    reason = "MODEL_DOES_NOT_FIT"
