"""Builds the requests about texts that both clients send, and reads the numbers of their answers."""

from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict, TypeVar

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.tensors import Array, to_numpy

Texts = str | Sequence[str] | Sequence[Sequence[int]]
"""A text, texts, or texts as token ids."""

_POOLINGS = {"mean": pb.POOLING_MEAN, "cls": pb.POOLING_CLS, "last": pb.POOLING_LAST}
_KINDS = {"query": pb.TEXT_KIND_QUERY, "document": pb.TEXT_KIND_DOCUMENT}
_TRUNCATIONS = {"none": pb.TRUNCATION_NONE, "end": pb.TRUNCATION_END, "start": pb.TRUNCATION_START}
EnumT = TypeVar("EnumT")
Truncation = Literal["none", "end", "start"]


class EmbedOptions(TypedDict, total=False):
    """Options of `embed`; EmbedRequest in the contract says more."""

    kind: Literal["query", "document"]
    """What the texts are in a search, which chooses the model's own prompt."""
    prompt_name: str
    """Name of the prompt of the model's own to put before each text."""
    dimensions: int
    """Number of dimensions to keep, the first ones."""
    pooling: Literal["mean", "cls", "last"]
    """How the vectors of a text's tokens become one; default: as the model was trained."""
    normalize: bool
    """Whether each vector has length 1; default: as the model was trained."""
    truncation: Truncation
    """What becomes of texts that are too long: none refuses them (the default), end and start cut them there."""
    device: str
    priority: int


def build_embed_request(model: str, texts: Texts, options: EmbedOptions) -> pb.EmbedRequest:
    """The request. Raises InvalidArgument for an option that is none."""
    request = pb.EmbedRequest(
        model=model,
        device=options.get("device", ""),
        prompt_name=options.get("prompt_name", ""),
        dimensions=options.get("dimensions"),
        normalize=options.get("normalize"),
        priority=options.get("priority", 0),
        pooling=_chosen("pooling", options.get("pooling"), _POOLINGS),
        kind=_chosen("kind", options.get("kind"), _KINDS),
        truncation=_chosen("truncation", options.get("truncation"), _TRUNCATIONS),
    )
    for text in [texts] if isinstance(texts, str) else texts:
        if isinstance(text, str):
            request.texts.append(text)
        else:
            request.token_ids.add().ids.extend(text)
    return request


def build_score_request(
    model: str, query: str, texts: Sequence[str], *, truncation: Truncation, device: str
) -> pb.ScoreRequest:
    """The request. Raises InvalidArgument for a truncation that is none."""
    return pb.ScoreRequest(
        model=model,
        queries=[query],
        texts=texts,
        device=device,
        truncation=_chosen("truncation", truncation, _TRUNCATIONS),
    )


def vectors_of(response: pb.EmbedResponse) -> Array:
    """The vectors, float32 [texts, dimensions], read-only."""
    return to_numpy(response.embeddings, field="embeddings")


def scores_of(response: pb.ScoreResponse) -> Array:
    """The scores, float32 [texts], read-only."""
    return to_numpy(response.scores, field="scores")


def _chosen(name: str, value: str | None, values: Mapping[str, EnumT]) -> EnumT | None:
    """What a choice stands for; None if there is none."""
    if value is None:
        return None
    if value not in values:
        problem = f"must be one of {', '.join(values)}, not {value!r}"
        raise InvalidArgument(f"{name}: {problem}", fields={name: problem})
    return values[value]
