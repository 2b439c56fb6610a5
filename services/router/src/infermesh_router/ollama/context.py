"""The `context` of /api/generate: the conversation so far, as numbers that a client keeps and sends back.

Ollama's are the tokens of what was said. These hold the messages themselves, so that the next prompt is rendered as any
other conversation is, by whichever endpoint answers it, and the router keeps nothing.
"""

import sys
from array import array
from collections.abc import Sequence
from zlib import crc32

import orjson

from infermesh_router.ollama.schema import Said
from infermesh_router.openai.errors import invalid

MAX_BYTES = 1 << 18
"""The longest conversation, in bytes of its JSON, that is returned: it must take the event loop no time."""
_MARK = 0x696D  # "im": what these numbers begin with
_WORD_BYTES = 2  # so that each number fits into any type of integer that clients have


def write_context(messages: Sequence[Said]) -> list[int] | None:
    """The numbers of a conversation; None if it is too long."""
    data = orjson.dumps([[said.role, said.content] for said in messages])
    if len(data) > MAX_BYTES:
        return None
    data += b" " * (len(data) % _WORD_BYTES)
    check = crc32(data)
    return [_MARK, check >> 16, check & 0xFFFF, *_in_order(array("H", data))]


def read_context(numbers: Sequence[int]) -> list[Said]:
    """The conversation of these numbers. Raises InvalidArgument if `write_context` did not make them."""
    try:
        mark, high, low, *words = numbers
        data = _in_order(array("H", words)).tobytes()
        if (mark, high << 16 | low) == (_MARK, crc32(data)):
            return [Said(role=role, content=content) for role, content in orjson.loads(data)]
    except (ValueError, TypeError, OverflowError):  # tokens of another server, or numbers that somebody changed
        pass
    raise invalid(
        "context",
        "was not made by this server: send what /api/generate returned, or the whole conversation to /api/chat",
    )


def _in_order(words: "array[int]") -> "array[int]":
    """Numbers whose first byte is the low one, whatever the machine's order is."""
    if sys.byteorder == "big":
        words.byteswap()
    return words
