"""The body of /v1/chat/completions."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Discriminator, Field, Tag

from infermesh_router.openai.schema.fields import MAX_LOGPROBS, Limit, Strict, Unsupported, only
from infermesh_router.openai.schema.messages import Conversation, TextPart, content_tag
from infermesh_router.openai.schema.shared import SamplingRequest
from infermesh_router.openai.schema.tools import Tooled


class Prediction(Strict):
    """What the answer is expected to be. It makes the answer faster where it is right, and changes nothing else."""

    type: Annotated[Literal["content"], only("content")]
    content: Annotated[
        Annotated[str, Tag("<string>")] | Annotated[list[TextPart], Tag("<parts>")], Discriminator(content_tag)
    ]

    @property
    def text(self) -> str:
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content)


class ChatRequest(Conversation, Tooled, SamplingRequest):
    """The body of /v1/chat/completions."""

    HINTS: ClassVar[Mapping[str, tuple[object, ...]]] = {
        **SamplingRequest.HINTS,
        "prompt_cache_options": ({},),
    }

    max_completion_tokens: Limit | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[int, Field(ge=0, le=MAX_LOGPROBS)] | None = None
    prediction: Prediction | None = None
    prompt_cache_options: dict[str, Any] | None = None

    # only values that do not affect the answer are supported
    modalities: Annotated[list[str] | None, only(["text"])] = None
    audio: Unsupported = None
    moderation: Unsupported = None
    web_search_options: Unsupported = None
