"""JSON schemas of the contract's messages, as Envoy's transcoder writes them."""

from collections.abc import Iterator, Mapping
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor

from infermesh_router.description.api import SCHEMAS

_KINDS: Mapping[int, Mapping[str, Any]] = {
    FieldDescriptor.CPPTYPE_BOOL: {"type": "boolean"},
    FieldDescriptor.CPPTYPE_DOUBLE: {"type": "number"},
    FieldDescriptor.CPPTYPE_FLOAT: {"type": "number"},
    FieldDescriptor.CPPTYPE_INT32: {"type": "integer"},
    FieldDescriptor.CPPTYPE_UINT32: {"type": "integer", "minimum": 0},
    FieldDescriptor.CPPTYPE_INT64: {"type": "string", "pattern": "^-?[0-9]+$"},
    FieldDescriptor.CPPTYPE_UINT64: {"type": "string", "pattern": "^[0-9]+$"},
    FieldDescriptor.CPPTYPE_STRING: {"type": "string"},
}
_TIME = {"type": "string", "format": "date-time"}
_TIMESTAMP = "google.protobuf.Timestamp"


def schema_name(message: Descriptor) -> str:
    """The name of its schema. Messages of other packages than the mesh's have no names in common with them."""
    return f"Mesh{message.name}"


def message_schemas(message: Descriptor) -> dict[str, Any]:
    """The schemas of a message and of all that are in it, by their names."""
    return {schema_name(each): _schema(each) for each in {each.full_name: each for each in _inside(message)}.values()}


def _inside(message: Descriptor, known: frozenset[str] = frozenset()) -> Iterator[Descriptor]:
    if message.full_name in known or message.full_name == _TIMESTAMP:
        return
    if not message.GetOptions().map_entry:
        yield message
    for field in message.fields:
        if field.message_type is not None:
            yield from _inside(field.message_type, known | {message.full_name})


def _schema(message: Descriptor) -> dict[str, Any]:
    """All fields are there, zeros included, but those of which it can be told whether they are set."""
    always = [field.name for field in message.fields if field.is_repeated or not field.has_presence]
    schema = {"type": "object", "properties": {field.name: _field(field) for field in message.fields}}
    return {**schema, "required": always} if always else schema


def _field(field: FieldDescriptor) -> Mapping[str, Any]:
    inner = field.message_type
    if inner is not None and inner.GetOptions().map_entry:
        return {"type": "object", "additionalProperties": _value(inner.fields_by_name["value"])}
    return {"type": "array", "items": _value(field)} if field.is_repeated else _value(field)


def _value(field: FieldDescriptor) -> Mapping[str, Any]:
    if field.message_type is None:
        return _KINDS[field.cpp_type]
    return (
        _TIME if field.message_type.full_name == _TIMESTAMP else {"$ref": f"{SCHEMAS}{schema_name(field.message_type)}"}
    )
