"""Owns what a worker says about all of its models together. Pure; knows no protobuf and no process."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from infermesh_engine.requests.output import EngineLoad
from infermesh_engine.runners.runner import DeviceKind
from infermesh_worker.engine_process.status import State, Status
from infermesh_worker.models.served_model import ServedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceFacts:
    """The device that a worker owns."""

    kind: DeviceKind
    name: str
    memory_total_bytes: int
    memory_free_bytes: int
    runtime: str
    """What runs the models, as in RunnerInfo."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelView:
    """A model of a worker at one moment."""

    served: ServedModel
    status: Status
    memory_bytes: int
    sequences: int
    pinned: bool
    last_used_at: datetime | None
    """When its last request ended; None before the first."""
    home: bool
    """Whether the worker was started for it: what becomes of it becomes of the worker, while it has no other."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AvailableView:
    """A model that could be loaded."""

    name: str
    size_bytes: int
    memory_bytes: int
    context_length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """A worker at one moment."""

    state: State = State.LOADING
    message: str = ""
    """Why it is in this state, for people; empty when READY."""
    device: DeviceFacts | None = None
    """None until it is known; its free memory is what further models may take."""
    models: tuple[ModelView, ...] = ()
    available: tuple[AvailableView, ...] = ()
    load: EngineLoad = field(default_factory=EngineLoad)
    """Of all models together."""
    max_running: int = 0
    max_waiting: int = 0


def overall_state(models: Sequence[ModelView]) -> tuple[State, str]:
    """The state of a worker that is not stopping, and why.

    It takes requests when a model does, and also when it was started for none: then one can be loaded.
    """
    home = next((model.status for model in models if model.home), None)
    if home is None or any(model.status.state is State.READY for model in models):
        return State.READY, ""
    return home.state, home.message


def sum_loads(loads: Sequence[EngineLoad]) -> EngineLoad:
    """The load of all engines together; the usage of the KV caches is weighted by their sizes."""
    if len(loads) == 1:
        return loads[0]
    tokens = sum(load.kv_cache_tokens for load in loads)
    used = sum(load.kv_cache_usage * load.kv_cache_tokens for load in loads)
    return EngineLoad(
        running=sum(load.running for load in loads),
        waiting=sum(load.waiting for load in loads),
        waiting_tokens=sum(load.waiting_tokens for load in loads),
        kv_cache_usage=used / tokens if tokens else 0.0,
        prefill_tokens_per_s=sum(load.prefill_tokens_per_s for load in loads),
        decode_tokens_per_s=sum(load.decode_tokens_per_s for load in loads),
        kv_cache_tokens=tokens,
        preemptions=sum(load.preemptions for load in loads),
        looked_up_tokens=sum(load.looked_up_tokens for load in loads),
        cached_tokens=sum(load.cached_tokens for load in loads),
        generated_tokens=sum(load.generated_tokens for load in loads),
    )
