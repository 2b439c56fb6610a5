"""Owns the policy's refusals that can be helped: wait, load the model, free memory. Knows no endpoint."""

from infermesh_runtime.errors import ResourceExhausted, Unavailable


class Saturated(ResourceExhausted):
    """Every endpoint that could serve has all it can take; one will have room when something of it ends."""

    reason = "SATURATED"


class ModelNotLoaded(Unavailable):
    """No endpoint has the model loaded, but one could load it; metadata holds `model`."""

    reason = "MODEL_NOT_LOADED"


class ModelDoesNotFit(ResourceExhausted):
    """No endpoint has the memory for the model; metadata holds `model`, `needed_bytes` and `free_bytes`, at best."""

    reason = "MODEL_DOES_NOT_FIT"
