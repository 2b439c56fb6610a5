"""Reads and writes protobuf's wire format field by field, so that large tensors are copied once and not parsed.

A message is parsed without its large fields, which stay views of the bytes that came; what is sent on is joined of
parts.
"""

from collections.abc import Iterator
from typing import NamedTuple

from infermesh_runtime.errors import InvalidArgument

Bytes = bytes | memoryview
_VARINT, _EIGHT_BYTES, _LENGTH, _FOUR_BYTES = 0, 1, 2, 5
_FIXED = {_EIGHT_BYTES: 8, _FOUR_BYTES: 4}
_MAX_VARINT_BITS = 63


class Field(NamedTuple):
    """One field of a serialised message."""

    number: int
    is_bytes: bool
    """Whether it is a string, bytes or a message, so that `start` is behind its length."""
    tag: int
    """Where its tag is."""
    start: int
    """Where its value begins."""
    end: int
    """Where it ends."""


def scan(message: Bytes) -> Iterator[Field]:
    """The fields of a serialised message, without those of the messages in it. Raises InvalidArgument."""
    at, size = 0, len(message)
    try:
        while at < size:
            tag = at
            key, at = _read_varint(message, at)
            kind, start = key & 7, at
            if kind == _LENGTH:
                length, start = _read_varint(message, at)
                at = start + length
            elif kind == _VARINT:
                _, at = _read_varint(message, at)
            else:
                at += _FIXED[kind]
            if at > size or not key >> 3:
                raise malformed()
            yield Field(key >> 3, kind == _LENGTH, tag, start, at)
    except (IndexError, KeyError):
        raise malformed() from None


def set_apart(message: Bytes, number: int) -> tuple[bytes, list[memoryview]]:
    """A message without its fields of this number, which must be bytes or messages, and their values."""
    view, rest, apart, since = memoryview(message), list[memoryview](), list[memoryview](), 0
    for field in scan(message):
        if field.number == number and field.is_bytes:
            rest.append(view[since : field.tag])
            apart.append(view[field.start : field.end])
            since = field.end
    rest.append(view[since:])
    return b"".join(rest), apart


def opening(number: int, size_bytes: int) -> bytes:
    """What stands before the value of a field that is a string, bytes or a message."""
    return _write_varint(number << 3 | _LENGTH) + _write_varint(size_bytes)


def malformed() -> InvalidArgument:
    """The error for a message that is not protobuf."""
    return InvalidArgument("The request is not a valid protobuf message.", reason="MALFORMED_MESSAGE")


def _read_varint(message: Bytes, at: int) -> tuple[int, int]:
    """The number at `at`, and where it ends. Raises IndexError at the end of the message."""
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 127) << shift
        if byte < 128:
            return value, at
        shift += 7
        if shift > _MAX_VARINT_BITS:
            raise malformed()


def _write_varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)
