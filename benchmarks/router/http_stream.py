"""Streams chat completions over one kept HTTP connection, and times the first event.

It uses no HTTP library: parsing would cost more than what is measured, and vary from request to request.
"""

import asyncio
import json
import re
import time


def refusal(received: bytes) -> str:
    """Status line and body of an answer that is not 200; empty if it is, or while more of it may come."""
    head, complete, body = received.partition(b"\r\n\r\n")
    if not complete or head.startswith(b"HTTP/1.1 200"):
        return ""
    size = re.search(rb"\r\ncontent-length: *(\d+)", head, re.IGNORECASE)
    if size and len(body) < int(size[1]):
        return ""
    status = head.partition(b"\r\n")[0]
    return f"{status.decode(errors='replace')}: {body[:300].decode(errors='replace')}"


class HttpStreams:
    """One connection to an OpenAI server, which answers one request after another."""

    def __init__(self, address: str, model: str) -> None:
        self._host, _, self._port = address.rpartition(":")
        self._model = model
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, prompt: str, tokens: int) -> float:
        """Streams one answer to its end; returns the seconds until its first event. Raises RuntimeError on failure."""
        if self._streams is None or self._streams[0].at_eof():  # servers close idle connections
            self._streams = await asyncio.open_connection(self._host, int(self._port))
        reader, writer = self._streams
        message = {"role": "user", "content": prompt}
        body = json.dumps(
            {"model": self._model, "messages": [message], "max_tokens": tokens, "temperature": 0, "stream": True}
        ).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n"
            f"authorization: Bearer benchmark\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        began_s = time.perf_counter()
        writer.write(head.encode() + body)
        first_s, received = 0.0, b""
        while not received.endswith(b"0\r\n\r\n"):
            data = await reader.read(65536)
            if not data:
                raise RuntimeError(
                    f"The server closed the connection in the middle of an answer; its end: {received[-300:]!r}"
                )
            received += data
            if not first_s and (refused := refusal(received)):
                writer.close()
                raise RuntimeError(f"The server refused the request with {refused}")
            if not first_s and b"data:" in received:  # our router sends the role and the first token together
                first_s = time.perf_counter() - began_s
        if not received.startswith(b"HTTP/1.1 200") or b"[DONE]" not in received:
            raise RuntimeError(f"The server did not answer 200 with a whole stream: {received[:500]!r}")
        return first_s
