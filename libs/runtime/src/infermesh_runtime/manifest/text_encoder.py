"""What a manifest says of a model that turns texts into vectors or scores: pooling, prompts, the form of its answer."""

from typing import Annotated, Literal

import msgspec

Pooling = Literal["mean", "cls", "last"]
Activation = Literal["sigmoid", "identity"]

QUERY, DOCUMENT = "query", "document"
"""Names of the prompts before what is searched for, and before what is searched."""


class EncoderFacts(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How texts become the model's inputs, and its outputs an answer."""

    dimensions: Annotated[int, msgspec.Meta(ge=0)] = 0
    """Length of its vectors; 0 for a model that scores."""
    pooling: Pooling = "mean"
    """How the vectors of a text's tokens become one: their mean, that of the first token, or that of the last."""
    normalize: bool = False
    """Whether each vector has length 1 unless a request says otherwise."""
    prompts: dict[str, str] = {}
    """What is put before texts, by name."""
    default_prompt: str = ""
    """Name of the prompt for requests that do not say what their texts are; "": none."""
    lower_case: bool = False
    """Whether texts are made lower case before they are tokenised."""
    token_types: bool = True
    """Whether a model that scores is told which tokens are the query's and which the text's."""
    activation: Activation = "sigmoid"
    """What a score goes through unless a request asks for the raw one."""
