"""The status of a worker and of its models at one moment, as it is reported to routers."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from infermesh_engine.requests.output import EngineLoad
from infermesh_runtime.manifest.answer_style import AnswerStyle
from infermesh_runtime.manifest.generation_defaults import GenerationDefaults
from infermesh_runtime.manifest.model_kind import GENERATE, BatchLimits, ModelKind, TensorSpec
from infermesh_worker.device.device_facts import DeviceFacts
from infermesh_worker.engine_client.engine_status import EngineStatus, ServingState
from infermesh_worker.hosting.load_progress import LoadProgress
from infermesh_worker.hosting.queue_bound import QueueBound
from infermesh_worker.models.opened_model import OpenedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelStatus:
    """A hosted model at one moment."""

    opened: OpenedModel
    engine: EngineStatus
    memory_bytes: int
    """Memory that further models cannot have unless it is unloaded."""
    sequences: int
    bound: QueueBound
    """How many sequences it accepts."""
    pinned: bool
    last_used_at: datetime | None
    """When its last request ended; None before the first."""
    home: bool
    """Whether the worker was started with it: without a ready model, the worker's state is that of its home model."""
    kv_cache_bytes: int = 0
    """Memory reserved for its KV cache, of which a part is given up for a newcomer; 0: unknown."""
    keep_alive_s: float = 0.0
    """Idle time after which it is unloaded; 0: never."""
    progress: LoadProgress | None = None
    """How far its loading is; None: it is not loading for the first time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AvailableModel:
    """A model that could be loaded, and the memory that it would take."""

    name: str
    size_bytes: int
    memory_bytes: int
    context_length: int
    created: datetime
    has_chat_template: bool
    answer_style: AnswerStyle | None = None
    """How it writes tool calls and reasoning; None: not known before it has answered."""
    generation: GenerationDefaults | None = None
    """How its answers are made where a request does not say."""
    kind: ModelKind = GENERATE
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    batching: BatchLimits | None = None
    voices: tuple[str, ...] = ()
    takes_images: bool = False
    """Whether its conversations may have images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerStatus:
    """A worker at one moment."""

    state: ServingState = ServingState.LOADING
    message: str = ""
    """Why it is in this state, for people; empty when READY."""
    device: DeviceFacts | None = None
    """None until it is known. Its free memory is what further models may take."""
    models: tuple[ModelStatus, ...] = ()
    available: tuple[AvailableModel, ...] = ()
    load: EngineLoad = field(default_factory=EngineLoad)
    """Sum over all models."""
    max_running: int = 0
    """Sum over all models, as is max_waiting; without a model, what one would accept."""
    max_waiting: int = 0
    import_changes: int = 0
    """Number of changes of the imports into the models folder."""


def overall_state(models: Sequence[ModelStatus]) -> tuple[ServingState, str]:
    """The state of a worker that is not stopping, and why.

    It is READY when one of its models is, or when it has no home model: then models can be loaded. Otherwise its state
    is that of the home model.
    """
    home = next((model.engine for model in models if model.home), None)
    if home is None or any(model.engine.state is ServingState.READY for model in models):
        return ServingState.READY, ""
    return home.state, home.message


def sum_loads(loads: Sequence[EngineLoad]) -> EngineLoad:
    """The load of all engines together. The usage of their KV caches is averaged, weighted by cache size."""
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
        kv_written_tokens=sum(load.kv_written_tokens for load in loads),
        preemptions=sum(load.preemptions for load in loads),
        looked_up_tokens=sum(load.looked_up_tokens for load in loads),
        cached_tokens=sum(load.cached_tokens for load in loads),
        generated_tokens=sum(load.generated_tokens for load in loads),
        drafted_tokens=sum(load.drafted_tokens for load in loads),
        accepted_tokens=sum(load.accepted_tokens for load in loads),
        request_s=_request_s(loads),
    )


def _request_s(loads: Sequence[EngineLoad]) -> float:
    """Time for one more request to the models that do not generate text, the mean of those that have measured it."""
    measured = [load.request_s for load in loads if load.request_s]
    return sum(measured) / len(measured) if measured else 0.0
