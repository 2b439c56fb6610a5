"""Bounds what a request may consist of, and counts it before anything is built of it."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from google.protobuf.message import Message

from infermesh_runtime.errors import InvalidArgument

_LIGHT_BYTES = 4 * 1024
_HEAVY_BYTES = 256 * 1024
_LIGHT_WORK = 4096
_LIGHT_FIELDS = 512
_CONTAINER_WORK = 8
_CHUNK_BYTES = 1 << 20
_VALUES_PER_CONTAINER = 8

_COMMA, _QUOTE, _OPEN_LIST, _OPEN_OBJECT = b',"[{'
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The most that a request may consist of."""

    messages: int = 10_000
    parts: int = 10_000
    """Parts of content, over all messages."""
    values: int = 4_000_000
    """Values in a JSON body, or fields in a protobuf message; arrays and objects are bounded to an eighth of it."""

    def check_messages(self, count: int, path: str = "messages") -> None:
        """Raises InvalidArgument if a conversation has too many messages."""
        if count > self.messages:
            raise _too_many(path, f"has {count} messages", self.messages)

    def check_parts(self, count: int) -> None:
        """Raises InvalidArgument if the messages of a conversation have too many parts together."""
        if count > self.parts:
            raise _too_many("messages", f"has {count} parts of content", self.parts)

    def check_json(self, body: bytes) -> None:
        """Raises InvalidArgument if a JSON body has too many values to build objects of them."""
        if len(body) <= _HEAVY_BYTES:
            return
        values, containers = _count_json(body)
        if values > self.values or containers > self.values // _VALUES_PER_CONTAINER:
            raise InvalidArgument(
                f"The body has {values} values, {containers} of them arrays or objects; at most {self.values} and "
                f"{self.values // _VALUES_PER_CONTAINER} are allowed.",
                reason="REQUEST_TOO_COMPLEX",
            )

    def check_protobuf(self, body: bytes, kind: type[Message]) -> None:
        """Raises InvalidArgument if a serialised message has too many fields to build objects of them."""
        most = self.values // _VALUES_PER_CONTAINER
        if len(body) > _HEAVY_BYTES and count_fields(body, kind, most) > most:
            raise InvalidArgument(
                f"The request has more than {most} fields, those of its parts included.", reason="REQUEST_TOO_COMPLEX"
            )


def is_light_json(body: bytes) -> bool:
    """Whether reading a body takes so little time, a few milliseconds at most, that it may run on the event loop."""
    if len(body) <= _LIGHT_BYTES:
        return True
    if len(body) > _HEAVY_BYTES:
        return False
    return _CONTAINER_WORK * (body.count(b"{") + body.count(b"[")) + body.count(b",") <= _LIGHT_WORK


def is_light_protobuf(body: bytes, kind: type[Message]) -> bool:
    """The same for a serialised message."""
    if len(body) <= _LIGHT_BYTES:
        return True
    return len(body) <= _HEAVY_BYTES and count_fields(body, kind, _LIGHT_FIELDS) <= _LIGHT_FIELDS


def count_fields(body: bytes, kind: type[Message], most: int) -> int:
    """The fields of a serialised message and of the messages in it; it stops soon after `most`.

    What is malformed is not counted: the parser refuses it.
    """
    descriptor: Any = kind.DESCRIPTOR
    count, todo = 0, [(0, len(body), descriptor)]
    try:
        while todo:
            at, end, descriptor = todo.pop()
            while at < end and count <= most:
                tag, at = _read_varint(body, at)
                count += 1
                wire_type = tag & 7
                if wire_type == _LENGTH:
                    size, at = _read_varint(body, at)
                    field = descriptor.fields_by_number.get(tag >> 3)
                    if field is not None and field.message_type is not None:
                        todo.append((at, min(at + size, end), field.message_type))
                    at += size
                elif wire_type == _VARINT:
                    _, at = _read_varint(body, at)
                elif wire_type in (_EIGHT_BYTES, _FOUR_BYTES):
                    at += 8 if wire_type == _EIGHT_BYTES else 4
    except IndexError:
        pass
    return count


def _read_varint(body: bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where it ends. Raises IndexError at the end of the body."""
    byte = body[at]
    at += 1
    if byte < 128:
        return byte, at
    value, shift = byte & 127, 7
    while True:
        byte = body[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128 or shift > 63:
            return value, at
        shift += 7


def _count_json(body: bytes) -> tuple[int, int]:
    """The values, and the arrays and objects among them, of a JSON text; what is inside strings does not count."""
    unescaped = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    commas, containers, inside = 0, 0, np.uint8(0)
    for start in range(0, len(unescaped), _CHUNK_BYTES):
        chunk = np.frombuffer(unescaped, np.uint8, min(_CHUNK_BYTES, len(unescaped) - start), start)
        quoted = np.bitwise_xor.accumulate((chunk == _QUOTE).astype(np.uint8)) ^ inside
        inside = quoted[-1]
        outside = chunk[quoted == 0]
        commas += int(np.count_nonzero(outside == _COMMA))
        containers += int(np.count_nonzero((outside == _OPEN_LIST) | (outside == _OPEN_OBJECT)))
    return commas + containers + 1, containers


def _too_many(path: str, what: str, most: int) -> InvalidArgument:
    return InvalidArgument(
        f"'{path}' {what}; at most {most} are allowed.", reason="TOO_MANY_MESSAGES", fields={path: what}
    )
