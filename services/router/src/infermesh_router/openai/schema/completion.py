"""The body of /v1/completions."""

from typing import Annotated

from pydantic import Discriminator, Field, Tag

from infermesh_router.openai.schema.fields import MAX_CHOICES, MAX_LOGPROBS, EchoLimit, TokenIds
from infermesh_router.openai.schema.shared import SamplingRequest


def _prompt_tag(value: object) -> str:
    if not isinstance(value, list):
        return "<string>"
    first = value[0] if value else ""
    if isinstance(first, str):
        return "<strings>"
    return "<token lists>" if isinstance(first, list) else "<tokens>"


MAX_PROMPTS = 1024

Prompt = Annotated[
    Annotated[str, Tag("<string>")]
    | Annotated[list[str], Field(min_length=1, max_length=MAX_PROMPTS), Tag("<strings>")]
    | Annotated[TokenIds, Tag("<tokens>")]
    | Annotated[list[TokenIds], Field(min_length=1, max_length=MAX_PROMPTS), Tag("<token lists>")],
    Discriminator(_prompt_tag),
]


class CompletionRequest(SamplingRequest):
    """The body of /v1/completions."""

    prompt: Prompt
    max_tokens: EchoLimit | None = None
    """0, for `echo` alone, gives the prompt back."""
    logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    """OpenAI allows up to 5."""
    best_of: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    """So many choices are generated, and the `n` with the largest cumulative log probability returned."""
    echo: bool | None = None
    suffix: str | None = None
    """The text after the gap that a model for code fills in."""
