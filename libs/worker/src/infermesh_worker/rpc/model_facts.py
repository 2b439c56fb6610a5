"""Converts what a model is to messages: its kind, the tensors that it takes and gives, and how it is batched."""

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.tensor.v1.tensor_pb2 import TensorMetadata
from infermesh_runtime.manifest.model_kind import BatchLimits, ModelKind, TensorSpec

KINDS: dict[ModelKind, pb.ModelKind] = {
    "generate": pb.MODEL_KIND_GENERATE,
    "embed": pb.MODEL_KIND_EMBED,
    "rerank": pb.MODEL_KIND_RERANK,
    "infer": pb.MODEL_KIND_INFER,
    "transcribe": pb.MODEL_KIND_TRANSCRIBE,
    "speak": pb.MODEL_KIND_SPEAK,
}


def to_metadata(spec: TensorSpec) -> TensorMetadata:
    """The message about one input or output."""
    return TensorMetadata(
        name=spec.name,
        dtype=f"DATA_TYPE_{spec.dtype}",
        shape=spec.shape or (),
        any_rank=spec.shape is None,
    )


def to_limits(limits: BatchLimits | None) -> pb.BatchLimits | None:
    """The message about batches; None: requests run alone."""
    if limits is None or limits.max_size == 1:
        return None
    return pb.BatchLimits(
        max_size=limits.max_size, max_delay_ms=limits.max_delay_ms, preferred_sizes=limits.preferred_sizes
    )
