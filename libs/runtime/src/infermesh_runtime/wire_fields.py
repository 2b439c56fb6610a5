"""Walks over the fields of a serialised protobuf message without copying their content."""

from collections.abc import Iterator

_VARINT, _FIXED64, DELIMITED, _FIXED32 = 0, 1, 2, 5


def fields(view: memoryview, most: int | None = None) -> Iterator[tuple[int, int, memoryview, memoryview]]:
    """Each field: number, wire type, all of its bytes, and its content.

    Raises ValueError and IndexError for what is no message, and ValueError for one of more than `most` fields.
    """
    position, end, count = 0, len(view), 0
    while position < end:
        count += 1
        if most is not None and count > most:
            raise ValueError(f"the message has more than {most} fields")
        begin = position
        tag, position = read_varint(view, position)
        kind, size = tag & 7, 0
        if kind == _VARINT:
            _, position = read_varint(view, position)
        elif kind == DELIMITED:
            size, position = read_varint(view, position)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind} is unknown")
        if position + size > end:
            raise ValueError("a field ends beyond the message")
        yield tag >> 3, kind, view[begin : position + size], view[position : position + size]
        position += size


def read_varint(view: memoryview, position: int) -> tuple[int, int]:
    """The varint that begins there, and where it ends. Raises ValueError and IndexError."""
    value = 0
    for shift in range(0, 70, 7):
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a varint has more than ten bytes")


def varint(value: int) -> bytes:
    """The bytes of a number of at least 0."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
