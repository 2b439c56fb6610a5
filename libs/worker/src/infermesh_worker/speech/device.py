"""The interface between Whisper's algorithm and the device that runs its encoder and decoder."""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Protocol

from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.tensors import Array


class SpeechSession(Protocol):
    """The encoder and decoder at work on one sound, for one thread. All methods raise InfermeshError."""

    def encode(self, features: Array) -> None:
        """Listens to a window: FP32 [mels, frames]. What was decoded before is forgotten."""
        ...

    def begin(self) -> None:
        """Forgets the tokens, but not the window."""
        ...

    def extend(self, ids: Sequence[int], places: Sequence[int]) -> Array:
        """Reads further tokens; returns the logits of what follows those at `places`: FP32 [places, vocabulary].

        A view that the next call may overwrite.
        """
        ...

    def align(self, ids: Sequence[int]) -> tuple[Array, Array]:
        """Reads tokens from the beginning: the logits of what follows each, FP32 [tokens, vocabulary], and what the
        alignment heads look at, before the softmax: FP32 [heads, tokens, frames of the encoder].
        """
        ...


class SpeechDevice(Protocol):
    """A loaded model."""

    info: RunnerInfo

    def session(self) -> AbstractContextManager[SpeechSession]:
        """Something to work on one sound with; may be called by several threads."""
        ...

    def memory_free_bytes(self) -> int:
        """Free memory of the device now."""
        ...

    def close(self) -> None:
        """Frees the device."""
        ...
