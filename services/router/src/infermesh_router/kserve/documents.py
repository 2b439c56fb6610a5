"""Writes messages as the JSON documents that the protocol has over REST."""

from typing import Any

import orjson
from google.api.httpbody_pb2 import HttpBody
from google.protobuf.message import Message

from infermesh_router.openai.answerer import JSON


def to_document(message: Any) -> dict[str, Any]:
    """All fields of a message by name; whole numbers stay numbers, and enums are names."""
    return {field.name: _value(field, getattr(message, field.name)) for field in message.DESCRIPTOR.fields}


def json_body(document: object) -> HttpBody:
    """The body of a document."""
    return HttpBody(content_type=JSON, data=orjson.dumps(document))


def _value(field: Any, value: Any) -> Any:
    if field.is_repeated:
        return [_single(field, each) for each in value]
    return _single(field, value)


def _single(field: Any, value: Any) -> Any:
    if isinstance(value, Message):
        return to_document(value)
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    return value
