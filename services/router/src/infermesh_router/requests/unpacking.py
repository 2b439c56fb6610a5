"""Unpacks bodies that clients compressed with gzip, deflate or zstd, within bounds of size and of time."""

import time
import zlib
from collections.abc import Callable, Iterator
from typing import Protocol

import zstandard

from infermesh_runtime.errors import InvalidArgument

ENCODING_KEY = "x-infermesh-body-encoding"
"""Metadata with the Content-Encoding that the client sent. Envoy sets it."""
MAX_SECONDS = 10.0
"""How long unpacking may take. A body of 64 MiB takes less than a second, unless it is made to take long."""

_MIB = 1 << 20
_GZIP_FEED_BYTES, _ZSTD_FEED_BYTES = 4096, 256
"""How much is unpacked at once: what this much becomes has some MiB at the most."""
_ZSTD_WINDOW_BYTES = 128 * _MIB
"""The largest window that the command `zstd` accepts, too, unless it is told otherwise."""


class _Member(Protocol):
    """Unpacks one member of a gzip file or one frame of a zstd file; either kind of file is a sequence of them."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: bytes, /) -> bytes: ...


def unpack(data: bytes, encoding: str, *, max_bytes: int, max_s: float = MAX_SECONDS) -> bytes:
    """The bytes that were compressed. Raises InvalidArgument."""
    return b"".join(_bounded(data, encoding, max_bytes, max_s))


def unpacked_size(data: bytes, encoding: str, *, max_bytes: int, max_s: float = MAX_SECONDS) -> int:
    """How many bytes `unpack` would give, without holding them. Raises InvalidArgument."""
    return sum(map(len, _bounded(data, encoding, max_bytes, max_s)))


def unpack_small(data: bytes, encoding: str, *, up_to_bytes: int) -> bytes | None:
    """The same in a few milliseconds; None if the data or what it unpacks to has more than `up_to_bytes`."""
    if len(data) > up_to_bytes:
        return None
    parts, size = [], 0
    for part in _parts(data, encoding):
        parts.append(part)
        size += len(part)
        if size > up_to_bytes:
            return None
    return b"".join(parts)


def _bounded(data: bytes, encoding: str, max_bytes: int, max_s: float) -> Iterator[bytes]:
    size, end_s = 0, time.monotonic() + max_s
    for part in _parts(data, encoding):
        size += len(part)
        if size > max_bytes:
            raise InvalidArgument(
                f"The body has {len(data)} bytes and unpacks to more than {max_bytes} ({max_bytes / _MIB:g} MiB), the "
                "most that is allowed.",
                reason="REQUEST_TOO_LARGE",
            )
        if time.monotonic() > end_s:
            raise InvalidArgument(
                f"The body takes more than {max_s:g} s to unpack. Send it without Content-Encoding.",
                reason="REQUEST_TOO_COMPLEX",
            )
        yield part


def _parts(data: bytes, encoding: str) -> Iterator[bytes]:
    """What the data unpacks to, in parts of at most some MiB; empty ones let the caller look at the clock."""
    if encoding not in _KINDS:
        raise InvalidArgument(
            f"Bodies may be compressed with gzip, deflate or zstd, once; the Content-Encoding {encoding!r} is not "
            "supported.",
            reason="UNSUPPORTED_ENCODING",
        )
    try:
        yield from _unpack_members(data, *_KINDS[encoding]())
    except (zlib.error, zstandard.ZstdError) as error:
        raise _invalid(f"The body is not valid {encoding}: {error}.") from None
    except EOFError:
        raise _invalid(f"The body ends before the end of its {encoding} data.") from None


def _gzip() -> tuple[Callable[[], _Member], int]:
    return lambda: zlib.decompressobj(wbits=31), _GZIP_FEED_BYTES


def _deflate() -> tuple[Callable[[], _Member], int]:
    return lambda: zlib.decompressobj(wbits=15), _GZIP_FEED_BYTES  # HTTP's deflate is zlib's format (RFC 9110)


def _zstd() -> tuple[Callable[[], _Member], int]:
    return zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj, _ZSTD_FEED_BYTES


_KINDS: dict[str, Callable[[], tuple[Callable[[], _Member], int]]] = {
    "gzip": _gzip,
    "deflate": _deflate,
    "zstd": _zstd,
}


def _unpack_members(data: bytes, begin: Callable[[], _Member], feed_bytes: int) -> Iterator[bytes]:
    """Raises EOFError if the last member is not complete."""
    member = begin()
    for start in range(0, len(data), feed_bytes):
        pending = data[start : start + feed_bytes]
        while pending:
            if member.eof:
                member = begin()
            yield member.decompress(pending)
            pending = member.unused_data if member.eof else b""
    if not member.eof:
        raise EOFError


def _invalid(message: str) -> InvalidArgument:
    return InvalidArgument(message, reason="INVALID_ENCODING")
