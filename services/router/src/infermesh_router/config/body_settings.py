"""Settings of what a request may consist of, and how much of the router the requests in progress may take."""

from typing import Literal

from pydantic import ByteSize, Field

from infermesh_runtime.settings import ServiceSettings


class BodySettings(ServiceSettings):
    """Bounds of one request, and of all requests together."""

    unknown_fields: Literal["reject", "ignore"] = Field(
        "ignore",
        description="What to do with an unknown field in a REST body: ignore the field and name it in the response "
        "header x-infermesh-ignored-fields, or reject the request.",
    )
    max_body_bytes: int = Field(
        64 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024, description="Largest REST request body to accept, in bytes."
    )
    max_calls: int = Field(
        4096,
        ge=1,
        le=1_000_000,
        description="Most requests in progress, running and waiting together. Further ones are refused with 429 before "
        "they are read.",
    )
    queue_bytes: ByteSize | None = Field(
        None,
        ge=1,
        description="Most memory that waiting requests may hold, e.g. 2GiB; four times the size of each request's body "
        "is counted. Further requests are refused with 429. Default: a quarter of the memory that the router may use.",
    )
    max_messages: int = Field(
        10_000, ge=1, le=1_000_000, description="Most messages in one conversation, over REST and gRPC."
    )
    max_content_parts: int = Field(
        10_000, ge=1, le=1_000_000, description="Most parts of content in one REST body, over all its messages."
    )
    max_body_values: int = Field(
        4_000_000,
        ge=1000,
        le=100_000_000,
        description="Most values (strings, numbers, arrays, ...) in one REST body. Arrays and objects, and the fields "
        "of a gRPC request, are bounded to an eighth of it.",
    )
    body_memory_bytes: int = Field(
        0,
        ge=0,
        description="Memory for the requests in progress, in bytes. A request counts three times its size until it is "
        "read, then once, until it ends. Requests over 64 KiB that do not fit are refused with 429. 0: an eighth of "
        "the machine's memory, at least 256 MiB and at most 2 GiB.",
    )
    client_body_memory_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of that memory, in (0, 1], that the requests from one address may take.",
    )
    body_timeout_s: float = Field(
        60.0, gt=0, le=3600, description="How long a request may take to arrive completely, in seconds."
    )
