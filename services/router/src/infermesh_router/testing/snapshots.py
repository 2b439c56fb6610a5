"""Snapshots of endpoints for tests of the policy. Every endpoint has, or could load, the model "m"."""

from dataclasses import fields as fields_of
from dataclasses import replace
from typing import Any

from infermesh_router.policy.model_load import ModelLoad
from infermesh_router.policy.snapshot import DeviceKind, EndpointSnapshot

GB = 10**9
_LOAD_FIELDS = frozenset(field.name for field in fields_of(ModelLoad))
M = frozenset({"m"})


def endpoint(address: str, **fields: Any) -> EndpointSnapshot:
    """A ready endpoint that has measured nothing yet. Fields of a load are those of its total."""
    total = ModelLoad(**{name: fields.pop(name) for name in list(fields) if name in _LOAD_FIELDS})
    return replace(EndpointSnapshot(address=address, models=M, ready_models=M, total=total), **fields)


def measured(address: str, **fields: Any) -> EndpointSnapshot:
    """A ready endpoint that prefills and decodes 1000 tokens per second."""
    rates = {"prefill_tokens_per_s": 1000.0, "decode_tokens_per_s": 1000.0}
    return endpoint(address, **(rates | fields))


def gpu(address: str = "gpu", **fields: Any) -> EndpointSnapshot:
    """An accelerator; the weights of "m" take 2 GB."""
    return measured(address, **({"device": DeviceKind.XPU, "model_sizes": {"m": 2 * GB}} | fields))


def cpu(address: str = "cpu", **fields: Any) -> EndpointSnapshot:
    """A CPU; the weights of "m" take 2 GB."""
    return measured(address, **({"device": DeviceKind.CPU, "model_sizes": {"m": 2 * GB}} | fields))


def disk(address: str, **fields: Any) -> EndpointSnapshot:
    """An endpoint with "m" on disk only; loading it takes 4 of its 16 GB."""
    nothing = {"models": frozenset(), "ready_models": frozenset(), "available": {"m": 4 * GB}}
    memory = {"memory_total_bytes": 16 * GB, "memory_free_bytes": 16 * GB, "model_sizes": {"m": 2 * GB}}
    return measured(address, **(nothing | memory | fields))
