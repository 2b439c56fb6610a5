"""One event of a stream: the bytes of its message, and what they say, parsed once on arrival."""

from typing import Any, TypeVar

from google.protobuf.message import DecodeError

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.faults import MALFORMED_MESSAGE
from infermesh_runtime.errors import Unavailable

Event = tuple[bytes, pb.GenerateResponse]
"""The message and its content. gRPC clients are sent the first, OpenAI clients are told the second.

A plain tuple, because one is made for every token: an object of a class would cost as much as parsing the message.
"""
StreamEvent = tuple[bytes, Any]
"""The same of a stream of any kind, for the code that all kinds share."""
AudioContent = pb.TranscribeResponse | pb.SpeakResponse

ContentT = TypeVar("ContentT", bound=pb.GenerateResponse | AudioContent)


def read_event(message: bytes) -> Event:
    """Parses a message of an endpoint. Raises Unavailable (MALFORMED_MESSAGE)."""
    try:
        return message, pb.GenerateResponse.FromString(message)
    except DecodeError:
        raise malformed("cannot be parsed") from None


def read_audio_event(kind: type[AudioContent], message: bytes) -> StreamEvent:
    """The same for the messages of a stream about sound."""
    try:
        return message, kind.FromString(message)
    except DecodeError:
        raise malformed("cannot be parsed") from None


def write_event(content: ContentT) -> tuple[bytes, ContentT]:
    """The event of content that the router made or changed."""
    return content.SerializeToString(), content


def malformed(what: str) -> Unavailable:
    """The error of a message that may not be there. `what` completes "The endpoint sent a message that"."""
    return Unavailable(f"The endpoint sent a message that {what}.", reason=MALFORMED_MESSAGE)
