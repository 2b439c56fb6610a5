"""The body of /v1/chat/completions."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from infermesh_router.openai.schema.fields import MAX_LOGPROBS, Limit, Unsupported, UnsupportedList, only
from infermesh_router.openai.schema.messages import Conversation
from infermesh_router.openai.schema.shared import SamplingRequest


class ChatRequest(Conversation, SamplingRequest):
    """The body of /v1/chat/completions."""

    HINTS: ClassVar[Mapping[str, tuple[object, ...]]] = {
        **SamplingRequest.HINTS,
        "prediction": (),
        "prompt_cache_options": ({},),
    }

    max_completion_tokens: Limit | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    parallel_tool_calls: bool | None = None
    """Has no effect, because tools are not supported."""
    prediction: dict[str, Any] | None = None
    prompt_cache_options: dict[str, Any] | None = None

    # only values that do not affect the answer are supported
    modalities: Annotated[list[str] | None, only(["text"])] = None
    tool_choice: Annotated[str | None, only("none", "auto")] = None
    function_call: Annotated[str | None, only("none", "auto")] = None

    tools: UnsupportedList = None
    functions: UnsupportedList = None
    audio: Unsupported = None
    moderation: Unsupported = None
    web_search_options: Unsupported = None
