"""The fields that bodies of chat and text completions share."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from infermesh_router.openai.schema.fields import (
    MAX_CHOICES,
    MAX_LOGPROBS,
    Bias,
    Limit,
    NonEmpty,
    Penalty,
    Ratio,
    Stop,
    StreamOptions,
    Strict,
    TokenId,
    TokenIds,
    Unsupported,
    UnsupportedList,
    only,
)
from infermesh_router.openai.schema.formats import Choices, ResponseFormat, Schema, StructuredOutputs
from infermesh_router.requests.call import MAX_PRIORITY

MAX_DEADLINE_MS = 24 * 3600 * 1000


class SamplingRequest(Strict):
    """The fields that chat and text completions share. Ranges are OpenAI's; a field says so if ours is wider."""

    HINTS: ClassVar[Mapping[str, tuple[object, ...]]] = {
        "metadata": ({},),
        "store": (False,),
        "service_tier": ("auto", "default"),
        "prompt_cache_retention": ("in_memory", "in-memory"),
        "spaces_between_special_tokens": (True,),
        "guided_decoding_backend": ("auto", "guidance"),
    }
    """Fields that are accepted without an effect, and the values that change nothing with OpenAI or vLLM either. A
    field with another value is named in the response header x-infermesh-ignored-fields."""

    model: Annotated[str, Field(min_length=1)]
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    seed: Annotated[int, Field(ge=-(2**63), lt=2**64)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Ratio | None = None
    """0 leaves only the most probable token, as with OpenAI; in the gRPC contract it is above 0."""
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    logit_bias: dict[str, Bias] | None = None
    stop: Stop | None = None
    max_tokens: Limit | None = None
    user: str | None = None
    metadata: dict[str, Any] | None = None
    store: bool | None = None
    service_tier: Literal["auto", "default", "flex", "scale", "priority"] | None = None
    safety_identifier: str | None = None
    prompt_cache_key: str | None = None
    """Serves as the session if `session_id` is not set: both ask for the endpoint whose cache has the prompt."""
    prompt_cache_retention: Literal["in_memory", "in-memory", "24h"] | None = None
    response_format: ResponseFormat | None = None

    # vLLM's extensions, at the top level as in vLLM
    top_k: Annotated[int, Field(ge=-1, le=2**31 - 1)] | None = None
    min_p: Ratio | None = None
    repetition_penalty: Annotated[float, Field(gt=0, le=2)] | None = None
    min_tokens: TokenId | None = None
    ignore_eos: bool | None = None
    stop_token_ids: Annotated[list[TokenId], Field(fail_fast=True)] | None = None
    allowed_token_ids: TokenIds | None = None
    bad_words: Annotated[list[NonEmpty], Field(max_length=1024, fail_fast=True)] | None = None
    include_stop_str_in_output: bool | None = None
    skip_special_tokens: bool | None = None
    spaces_between_special_tokens: bool | None = None
    """Without effect, as in vLLM for all tokenizers in use today."""
    truncate_prompt_tokens: Annotated[int, Field(ge=-1, le=2**31 - 1)] | None = None
    """Keeps so many tokens at the prompt's end; -1 as many as the context has room for."""
    add_special_tokens: bool | None = None
    return_token_ids: bool | None = None
    prompt_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    cache_salt: Annotated[str, Field(min_length=1, max_length=1024)] | None = None
    structured_outputs: StructuredOutputs | None = None
    guided_json: Schema | None = None
    guided_regex: str | None = None
    guided_choice: Choices | None = None
    guided_grammar: str | None = None
    guided_decoding_backend: str | None = None
    use_beam_search: Annotated[bool | None, only(False)] = None
    logits_processors: UnsupportedList = None

    # llama.cpp's and Ollama's, which must not be ignored because they say what the output may be
    json_schema: dict[str, Any] | None = None
    grammar: str | None = None
    format: Unsupported = None
    priority: Annotated[int, Field(ge=-MAX_PRIORITY, le=MAX_PRIORITY)] | None = None
    """As in vLLM, smaller is served earlier; in the gRPC contract it is the other way round."""

    # our own extensions
    device: str | None = None
    session_id: str | None = None
    deadline_ms: Annotated[int, Field(ge=1, le=MAX_DEADLINE_MS)] | None = None
    """How long the whole answer may take, in milliseconds; a shorter deadline of the call counts instead."""
