"""The body of /v1/chat/completions."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from infermesh_router.openai.schema.fields import MAX_LOGPROBS, Limit, Unsupported, UnsupportedList, only
from infermesh_router.openai.schema.messages import Message
from infermesh_router.openai.schema.shared import SamplingRequest


class ChatRequest(SamplingRequest):
    """The body of /v1/chat/completions."""

    HINTS: ClassVar[Mapping[str, tuple[object, ...]]] = {
        **SamplingRequest.HINTS,
        "prediction": (),
        "prompt_cache_options": ({},),
    }

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Limit | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    parallel_tool_calls: bool | None = None
    """Has no effect, because tools are not supported."""
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh", "max"] | None = None
    """For the chat template, if it takes it; "none" also turns thinking off there."""
    verbosity: Literal["low", "medium", "high"] | None = None
    """For the chat template, if it takes it."""
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

    # vLLM's extensions
    chat_template_kwargs: dict[str, Any] | None = None
    enable_thinking: bool | None = None
    """Qwen's, short for the same name in chat_template_kwargs."""
    add_generation_prompt: bool | None = None
    continue_final_message: bool | None = None
    """Leaves the last message open, so that the answer continues it."""
