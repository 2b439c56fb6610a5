"""The parts of frames that are about models which do not generate text: their items and results."""

from typing import Any

import msgspec

from infermesh_runtime.manifest.model_kind import ALONE, BatchLimits, ModelKind, TensorSpec
from infermesh_worker.executors.wire_tensors import WireTensor


class RunCommand(msgspec.Struct, array_like=True, tag="run", frozen=True, kw_only=True):
    """Front to engine: run this item on a model that does not generate text. Each is answered with one end."""

    request_id: str
    params: dict[str, Any]
    tensors: list[WireTensor]
    priority: int = 0
    deadline_s: float | None = None
    """By the monotonic clock, which all processes of a machine share; an item that waits longer is dropped."""


class ReleaseCommand(msgspec.Struct, array_like=True, tag="release", frozen=True):
    """Front to engine: these spans of the engine's shared memory are no longer needed."""

    spans: list[int]


class ModelFacts(msgspec.Struct, frozen=True, kw_only=True):
    """What a model that does not generate text says of itself."""

    kind: ModelKind
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    limits: BatchLimits = ALONE


class WireResult(msgspec.Struct, array_like=True, frozen=True):
    """A part of the answer to an item."""

    request_id: str
    params: dict[str, Any]
    tensors: list[WireTensor]
    last: bool
