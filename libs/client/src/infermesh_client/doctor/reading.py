"""Reads an answer to its end, or until it has taken too long or has grown too large."""

import time
from collections.abc import Iterator

import httpx

MAX_BYTES = 4 << 20
"""Longest answer that is read; doctor asks for a few tokens."""


class TooLargeError(Exception):
    """An answer has no end within MAX_BYTES."""

    def __init__(self) -> None:
        super().__init__(f"the answer is longer than {MAX_BYTES >> 20} MiB")


def read_content(response: httpx.Response, deadline_s: float) -> bytes:
    """The whole body. Raises TimeoutError after the deadline, by time.monotonic, and TooLargeError."""
    content = bytearray()
    for piece in _pieces(response, deadline_s):
        content += piece
    return bytes(content)


def events(response: httpx.Response, deadline_s: float) -> Iterator[str]:
    """The data of server-sent events, or lines of JSON. Raises as `read_content` does."""
    are_lines = "ndjson" in response.headers.get("content-type", "")
    for line in _lines(response, deadline_s):
        if are_lines and line:
            yield line
        elif line.startswith("data:"):
            yield line.removeprefix("data:").strip()


def _lines(response: httpx.Response, deadline_s: float) -> Iterator[str]:
    rest = bytearray()
    for piece in _pieces(response, deadline_s):
        rest += piece
        if b"\n" not in piece and b"\r" not in piece:
            continue
        *lines, last = rest.splitlines(keepends=True)
        if last.endswith((b"\n", b"\r")):
            lines, last = [*lines, last], bytearray()
        rest = last
        for line in lines:
            yield line.decode("utf-8", "replace").rstrip("\r\n")
    yield rest.decode("utf-8", "replace")


def _pieces(response: httpx.Response, deadline_s: float) -> Iterator[bytes]:
    """What comes, as it comes; what a decoder keeps for itself would hide how long it takes, so there is none."""
    size_bytes = 0
    for piece in response.iter_raw():
        size_bytes += len(piece)
        if time.monotonic() > deadline_s:
            raise TimeoutError
        if size_bytes > MAX_BYTES:
            raise TooLargeError
        yield piece
