"""The body of /v1/chat/completions."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from infermesh_router.openai.schema.fields import MAX_LOGPROBS, Limit, Unsupported, only
from infermesh_router.openai.schema.messages import Conversation
from infermesh_router.openai.schema.shared import SamplingRequest
from infermesh_router.openai.schema.tools import Tooled


class ChatRequest(Conversation, Tooled, SamplingRequest):
    """The body of /v1/chat/completions."""

    HINTS: ClassVar[Mapping[str, tuple[object, ...]]] = {
        **SamplingRequest.HINTS,
        "prediction": (),
        "prompt_cache_options": ({},),
    }

    max_completion_tokens: Limit | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    prediction: dict[str, Any] | None = None
    prompt_cache_options: dict[str, Any] | None = None

    # only values that do not affect the answer are supported
    modalities: Annotated[list[str] | None, only(["text"])] = None
    audio: Unsupported = None
    moderation: Unsupported = None
    web_search_options: Unsupported = None
