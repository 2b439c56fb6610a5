"""What a dialect tells of its API for the description, beside what the contract and its schemas say."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from google.protobuf.descriptor import Descriptor, ServiceDescriptor
from pydantic import BaseModel

JSON = "application/json"
EVENTS = "text/event-stream"
SCHEMAS = "#/components/schemas/"

Bodies = Mapping[str, tuple[type[BaseModel], ...]]
"""The schemas of the bodies that calls take, by the call's name; a body follows one of them."""

ERRORS: Mapping[int, str] = {
    400: "The request is malformed, or a field of it is refused; the error names the field.",
    401: "The API key is missing or not accepted.",
    403: "The API key does not allow this, or the origin or host is not allowed.",
    404: "The model or path does not exist.",
    405: "The path does not take this method.",
    408: "The request did not arrive in time.",
    413: "The body is too large.",
    415: "The body is compressed in a way that is not known.",
    429: "Too many requests; Retry-After says when to try again.",
    431: "The headers are too large.",
    500: "Something failed in the mesh.",
    501: "No endpoint can do this.",
    503: "No endpoint can answer now; Retry-After says when to try again.",
    504: "The request's deadline passed.",
}
"""The statuses of errors, which Envoy makes of gRPC's codes, and what they mean."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DescribedApi:
    """One dialect."""

    service: ServiceDescriptor
    """Its calls, with their paths."""
    bodies: Bodies
    error: Mapping[str, Any]
    """The JSON schema of its errors."""
    prefix: str = ""
    """What the names of its schemas begin with, so that they differ from those of the other dialects."""
    errors: Mapping[int, str] = field(default_factory=lambda: ERRORS)
    """HTTP status → what it means."""
    stream_type: str = EVENTS
    """The content type of its streams."""
    answers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The content types of the answers to calls that answer with something else than one JSON document or a stream."""
    sent: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """The bodies of calls that take something else than JSON, in OpenAPI's words: content type → schema."""
    told: Mapping[str, tuple[Descriptor, ...]] = field(default_factory=dict)
    """The messages of the contract that calls answer with as JSON, or as the data of their events."""
    parameters: Mapping[str, tuple[Mapping[str, Any], ...]] = field(default_factory=dict)
    """What calls take in the query or in headers, in OpenAPI's words."""
    may_be_empty: frozenset[str] = frozenset()
    """Calls whose body may be left out."""
    refused: Mapping[str, str] = field(default_factory=dict)
    """Calls that always answer 501, and what each says."""
    header: str = ""
    """With this header, the `shared` calls of another dialect answer in this one."""
    shared: frozenset[str] = frozenset()
    """Full names of those calls."""
