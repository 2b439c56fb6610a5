"""Owns the policy's refusals that something can be done about: wait, or load the model. Knows no endpoint."""

# ruff: noqa: N818 - a class is named after its status

from infermesh_runtime.errors import ResourceExhausted, Unavailable


class Saturated(ResourceExhausted):
    """Every endpoint that could serve has all it can take; one will have room when something of it ends."""

    reason = "SATURATED"


class ModelNotLoaded(Unavailable):
    """No endpoint has the model loaded, but one could load it; metadata holds `model`."""

    reason = "MODEL_NOT_LOADED"
