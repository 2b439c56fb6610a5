"""The body of /v1/batches, and the lines of a file of requests."""

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, BaseModel, Field
from pydantic_core import PydanticCustomError

from infermesh_router.openai.schema.fields import NonEmpty, Strict, only

Endpoint = Literal["/v1/chat/completions", "/v1/completions"]

_MOST_KEY_CHARS = 64


def _check_keys(metadata: dict[str, str]) -> dict[str, str]:
    if any(len(key) > _MOST_KEY_CHARS for key in metadata):
        raise PydanticCustomError("key_length", f"must have keys of at most {_MOST_KEY_CHARS} characters")
    return metadata


Metadata = Annotated[
    dict[str, Annotated[str, Field(max_length=512)]], Field(max_length=16), AfterValidator(_check_keys)
]
"""What a caller notes, within OpenAI's bounds."""


class BatchBody(Strict):
    """The body of /v1/batches."""

    HINTS: ClassVar[tuple[str, ...]] = ("output_expires_after",)
    """Fields that are accepted without an effect."""

    input_file_id: NonEmpty
    endpoint: Annotated[Endpoint, only("/v1/chat/completions", "/v1/completions")]
    completion_window: Annotated[Literal["24h"], only("24h")]
    """Requests that were not answered by then fail."""
    metadata: Metadata | None = None
    output_expires_after: dict[str, Any] | None = None
    """Has no effect: INFERMESH_BATCHES_DAYS says how long files are kept."""


class RequestLine(Strict):
    """A line of a file of requests."""

    custom_id: Annotated[str, Field(min_length=1, max_length=512)]
    method: Literal["POST"]
    url: str
    body: dict[str, Any]


BATCH_BODIES: Mapping[str, tuple[type[BaseModel], ...]] = {"CreateBatch": (BatchBody,)}
