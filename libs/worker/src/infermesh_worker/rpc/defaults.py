"""Fills in what a request does not say about sampling with the defaults of its model."""

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_engine.requests.request import GenerationRequest
from infermesh_runtime.manifest.generation_defaults import GenerationDefaults

_NAMES = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "presence_penalty",
    "frequency_penalty",
)

NO_LIMIT = 2**32 - 1
"""As the maximum number of tokens: as many as fit in the context, whatever the model's own default is."""


def with_defaults(
    sampling: pb.SamplingParams, stop: pb.StopConditions, defaults: GenerationDefaults | None
) -> tuple[pb.SamplingParams, int | None]:
    """The sampling parameters and the maximum number of tokens of a request to a model with these defaults."""
    max_tokens = stop.max_tokens if stop.HasField("max_tokens") and stop.max_tokens != NO_LIMIT else None
    if defaults is None:
        return sampling, max_tokens
    settled = to_message(defaults)
    if not stop.HasField("max_tokens") and settled.HasField("max_tokens"):
        max_tokens = settled.max_tokens
    settled.sampling.MergeFrom(sampling)
    return settled.sampling, max_tokens


def to_message(defaults: GenerationDefaults) -> pb.GenerationDefaults:
    """The defaults as the contract has them."""
    sampling = pb.SamplingParams()
    for name, value in defaults.sampling.items():
        setattr(sampling, name, value)
    return pb.GenerationDefaults(sampling=sampling, max_tokens=defaults.max_new_tokens)


def in_use(generation: GenerationRequest) -> pb.GenerationDefaults:
    """What a request uses, every field set."""
    sampling = pb.SamplingParams()
    for name in _NAMES:
        setattr(sampling, name, getattr(generation.sampling, name))
    return pb.GenerationDefaults(sampling=sampling, max_tokens=generation.stop.max_tokens)
