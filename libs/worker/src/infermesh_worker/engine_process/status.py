"""Owns what a worker says about itself: its state, why, and its load. Knows no protobuf."""

from dataclasses import dataclass, field
from enum import StrEnum

from infermesh_engine.requests.output import EngineLoad
from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.errors import InfermeshError, Unavailable, from_code


class State(StrEnum):
    """Whether a worker takes requests."""

    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


_RETRY_AFTER_S = {State.LOADING: 1.0, State.DRAINING: 1.0, State.FAILED: 10.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadFailure:
    """Why a model's last load failed."""

    message: str
    code: int
    """A gRPC code; 0 when the error was none of ours."""
    reason: str

    def error(self) -> InfermeshError:
        """The error for who asked for the model."""
        if not self.code:
            return Unavailable(self.message, reason="MODEL_LOAD_FAILED")
        return from_code(self.code, self.message, reason=self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Status:
    """A model's engine at one moment."""

    state: State = State.LOADING
    message: str = ""
    """Why it is in this state, for people; empty when READY."""
    load_failure: LoadFailure | None = None
    """Of the last load; None when it succeeded or none has ended."""
    info: RunnerInfo | None = None
    """The runner; of the last engine process while the next one loads, None before the first."""
    load: EngineLoad = field(default_factory=EngineLoad)
    memory_free_bytes: int = 0
    memory_bytes: int = 0
    """Memory that the model holds, its KV cache as if all of it were in use; 0 before the first load."""

    def refusal(self) -> Unavailable:
        """The error that a request gets in this state."""
        detail = f": {self.message}" if self.message else ""
        return Unavailable(
            f"the worker is {self.state.value}{detail}",
            reason=f"WORKER_{self.state.name}",
            retry_after_s=_RETRY_AFTER_S.get(self.state),
        )
