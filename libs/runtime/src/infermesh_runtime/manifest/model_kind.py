"""What a model does (its kind), the tensors that it takes and gives, and how its requests are batched."""

from typing import Annotated, Literal

import msgspec

ModelKind = Literal["generate", "embed", "rerank", "infer", "transcribe", "speak"]

GENERATE: ModelKind = "generate"
INFER: ModelKind = "infer"
EMBED: ModelKind = "embed"
RERANK: ModelKind = "rerank"
TRANSCRIBE: ModelKind = "transcribe"
SPEAK: ModelKind = "speak"

DOES: dict[ModelKind, str] = {
    "generate": "generates text",
    "embed": "turns texts into vectors",
    "rerank": "scores texts against a query",
    "infer": "turns tensors into tensors",
    "transcribe": "turns speech into text",
    "speak": "turns text into speech",
}
"""What models of each kind do, for sentences."""

ANY = -1
"""As a dimension of a shape: any size."""


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a model takes or gives under one name."""

    name: str
    dtype: str
    """Name of the data type without its prefix, such as "FP32"; see the contract's DataType."""
    shape: tuple[int, ...] | None
    """Size of each dimension, outermost first, ANY where it is open; None: any number of dimensions."""


class BatchLimits(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How requests of one model run together."""

    max_size: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)] = 1
    """Largest sum of the items' sizes in one batch; 1: each runs alone. An item that is larger runs alone."""
    max_delay_ms: Annotated[float, msgspec.Meta(ge=0, le=60_000)] = 0.0
    """Longest time that an item waits for others while the device is free."""
    preferred_sizes: tuple[Annotated[int, msgspec.Meta(ge=1)], ...] = ()
    """Sizes at which a batch runs without further delay; max_size always is one."""


ALONE = BatchLimits()
"""Each item runs by itself."""
