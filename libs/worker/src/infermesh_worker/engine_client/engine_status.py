"""The status of one engine process at one moment: its state, the reason for it, and its load."""

from dataclasses import dataclass, field
from enum import StrEnum

from infermesh_engine.requests.output import EngineLoad
from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.errors import InfermeshError, Unavailable, from_code
from infermesh_worker.engine_process.run_frames import ModelFacts


class ServingState(StrEnum):
    """Whether a worker, or one of its models, takes requests."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


_REFUSALS = {
    ServingState.LOADING: "The worker is not ready yet",
    ServingState.READY: "The worker is not ready yet",
    ServingState.DRAINING: "The worker is draining and takes no new requests",
    ServingState.FAILED: "The worker has failed",
}
_RETRY_AFTER_S = {ServingState.LOADING: 1.0, ServingState.DRAINING: 1.0, ServingState.FAILED: 10.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadFailure:
    """Why a model's last load failed."""

    message: str
    code: int
    """gRPC code of the error; 0 when it was not an InfermeshError."""
    reason: str

    def error(self) -> InfermeshError:
        """The error for the caller who asked for the model."""
        if not self.code:
            return Unavailable(self.message, reason="MODEL_LOAD_FAILED")
        return from_code(self.code, self.message, reason=self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineStatus:
    """An engine process at one moment."""

    state: ServingState = ServingState.LOADING
    message: str = ""
    """Why it is in this state, for people; empty when READY."""
    load_failure: LoadFailure | None = None
    """Set when the last load failed; None when it succeeded or none has ended yet."""
    info: RunnerInfo | None = None
    """The runner's figures; while an engine process restarts, those of the last one. None before the first load."""
    facts: ModelFacts | None = None
    """What the model says of itself; None for one that generates text, and before the first load."""
    load: EngineLoad = field(default_factory=EngineLoad)
    memory_free_bytes: int = 0
    memory_bytes: int = 0
    """Memory that the model holds, counting its whole KV cache as it was loaded; 0 before the first load."""
    kv_cache_bytes: int = 0
    """Size of its KV cache now; 0 before the first load, or if it is unknown."""

    def refusal(self) -> Unavailable:
        """The error for a request that comes in this state."""
        detail = f": {self.message}" if self.message else ""
        return Unavailable(
            f"{_REFUSALS[self.state]}{detail}",
            reason=f"WORKER_{self.state.name}",
            retry_after_s=_RETRY_AFTER_S.get(self.state),
        )
