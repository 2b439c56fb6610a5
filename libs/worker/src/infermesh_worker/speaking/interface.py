"""What a graph of Kokoro takes and gives, and the interface behind which each worker's package runs it."""

from collections.abc import Sequence
from typing import Protocol

from infermesh_engine.runners.runner import RunnerInfo
from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.manifest.model_kind import ANY, TensorSpec
from infermesh_runtime.tensors import Array
from infermesh_worker.speaking.kokoro_folder import STYLE

SAMPLE_RATE = 24_000
"""Samples a second."""
IDS, STYLES, SPEED = "input_ids", "style", "speed"
_OLD_IDS = "tokens"
_EXPECTED = {IDS: ("INT64", (1, ANY)), STYLES: ("FP32", (1, STYLE)), SPEED: ("FP32", (1,))}


class Speaker(Protocol):
    """A loaded graph."""

    @property
    def info(self) -> RunnerInfo:
        """Device, memory and runtime."""
        ...

    def speak(self, ids: Array, style: Array, speed: float) -> Array:
        """The samples, FP32 [samples], of phonemes, INT64 [1, phonemes], in a style, FP32 [1, 256]."""
        ...

    def memory_free_bytes(self) -> int:
        """Free memory of the device now."""
        ...


def input_order(inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Sequence[str]:
    """Which of IDS, STYLES and SPEED each input is. Raises FailedPrecondition if the graph is not one of Kokoro."""
    names = [IDS if spec.name == _OLD_IDS else spec.name for spec in inputs]
    fits = sorted(names) == sorted(_EXPECTED) and all(
        spec.dtype == _EXPECTED[name][0] and _takes(spec.shape, _EXPECTED[name][1])
        for name, spec in zip(names, inputs, strict=True)
    )
    if not fits or not outputs or outputs[0].dtype != "FP32":
        takes, gives = (
            ", ".join(f"{spec.name} {spec.dtype} {spec.shape}" for spec in side) for side in (inputs, outputs)
        )
        raise FailedPrecondition(
            f"the graph is not one of Kokoro: expected {IDS} INT64 [1, ?], {STYLES} FP32 [1, {STYLE}] and {SPEED} FP32 "
            f"[1], and samples in FP32 first; it takes {takes}, and gives {gives}",
            reason="MODEL_NOT_SUPPORTED",
        )
    return names


def _takes(shape: Sequence[int] | None, wanted: Sequence[int]) -> bool:
    return shape is None or (
        len(shape) == len(wanted) and all(extent in {ANY, needed} for extent, needed in zip(shape, wanted, strict=True))
    )
