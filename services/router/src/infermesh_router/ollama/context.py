"""The `context` of /api/generate: the conversation so far, as numbers that a client keeps and sends back.

Ollama's are the tokens of what was said. These hold the messages themselves, so that the next prompt is rendered as any
other conversation is, by whichever endpoint answers it, and the router keeps nothing.
"""

import sys
from array import array
from collections.abc import Sequence
from zlib import crc32

import orjson
from pydantic import TypeAdapter, ValidationError

from infermesh_router.ollama.schema import Said
from infermesh_router.openai.errors import invalid
from infermesh_runtime.errors import InvalidArgument

MAX_BYTES = 1 << 18
"""The longest conversation, in bytes of its JSON, that is returned: it must take the event loop no time."""
_FIELD = "context"
_MARK = 0x696D  # "im": what these numbers begin with
_WORD_BYTES = 2  # each number fits into every client's type of integer
_LIMIT = 1 << 8 * _WORD_BYTES
_SAID: TypeAdapter[list[Said]] = TypeAdapter(list[Said])


def write_context(messages: Sequence[Said]) -> list[int] | None:
    """The numbers of a conversation; None if it is too long."""
    data = orjson.dumps([[said.role, said.content] for said in messages])
    if len(data) > MAX_BYTES:
        return None
    data += b" " * (len(data) % _WORD_BYTES)
    check = crc32(data)
    return [_MARK, check >> 16, check % _LIMIT, *_words(data)]


def read_context(numbers: Sequence[int]) -> list[Said]:
    """The conversation of these numbers. Raises InvalidArgument if `write_context` did not make them."""
    mark, high, low, *words = numbers if len(numbers) > 3 else (0, 0, 0, 0)
    if mark != _MARK or not all(0 <= number < _LIMIT for number in numbers):
        raise _foreign()
    data = _bytes(words)
    if crc32(data) != high << 16 | low:
        raise _foreign()
    try:
        return _SAID.validate_python([{"role": role, "content": content} for role, content in orjson.loads(data)])
    except (ValueError, TypeError, ValidationError):  # somebody else's numbers with a right check
        raise _foreign() from None


def _foreign() -> InvalidArgument:
    return invalid(
        _FIELD,
        "was not made by this server: send what /api/generate returned, or the whole conversation to /api/chat",
    )


def _words(data: bytes) -> list[int]:
    words = array("H", data)
    if sys.byteorder == "big":
        words.byteswap()
    return words.tolist()


def _bytes(words: Sequence[int]) -> bytes:
    packed = array("H", words)
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()
