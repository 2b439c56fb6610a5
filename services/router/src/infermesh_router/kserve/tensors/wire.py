"""Parts serialised messages, so that large tensors are not parsed, and copied only when they are sent on."""

from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.wire_fields import DELIMITED, fields, varint

Bytes = bytes | memoryview
MAX_FIELDS = 10_000
"""Most fields of a message, without those of the messages in it. To walk over them takes some 10 ms."""


def set_apart(message: Bytes, number: int) -> tuple[bytes, list[memoryview]]:
    """A message without its fields of this number, which must be bytes or messages, and their values, as views.

    Raises InvalidArgument.
    """
    rest, apart = list[memoryview](), list[memoryview]()
    try:
        for found, kind, whole, content in fields(memoryview(message), MAX_FIELDS):
            if found == number and kind == DELIMITED:
                apart.append(content)
            else:
                rest.append(whole)
    except (ValueError, IndexError) as error:
        raise malformed(str(error)) from None
    return b"".join(rest), apart


def opening(number: int, size_bytes: int) -> bytes:
    """What stands before the value of a field that is a string, bytes or a message."""
    return varint(number << 3 | DELIMITED) + varint(size_bytes)


def malformed(why: str = "it cannot be parsed") -> InvalidArgument:
    """The error for a message that is not protobuf."""
    return InvalidArgument(f"The request is not a valid protobuf message: {why}.", reason="MALFORMED_MESSAGE")
