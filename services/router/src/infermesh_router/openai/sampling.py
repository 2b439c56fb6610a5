"""Shows sampling parameters by the names of OpenAI's API."""

from functools import lru_cache

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.requests.float32 import shorten
from infermesh_router.requests.neutral import NEUTRAL


def show_sampling(settings: pb.GenerationDefaults) -> dict[str, float]:
    """The parameters that are set, and `max_tokens` if it is."""
    shown = {
        field.name: shorten(value) for field, value in settings.sampling.ListFields() if field.name != "logit_bias"
    }
    return shown | ({"max_tokens": settings.max_tokens} if settings.HasField("max_tokens") else {})


def sampling_header(in_use: pb.GenerationDefaults) -> str:
    """`temperature=0.2, top_p=0.9`: the temperature, and what else differs from OpenAI's defaults."""
    return _header(in_use.SerializeToString(deterministic=True))


@lru_cache(maxsize=256)
def _header(in_use: bytes) -> str:
    return ", ".join(
        f"{name}={value:g}"
        for name, value in show_sampling(pb.GenerationDefaults.FromString(in_use)).items()
        if name in ("temperature", "max_tokens") or value != getattr(NEUTRAL, name)
    )
