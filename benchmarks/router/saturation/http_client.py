"""Asks for streams of chat completions on HTTP connections, and keeps the bytes of the answers."""

import asyncio
import json

import orjson

from benchmarks.router.http_stream import refusal
from benchmarks.router.saturation.arrivals import Arrivals, Message, Messages


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.arrivals = Arrivals()
        self._tail = b""

    def data_received(self, data: bytes) -> None:
        arrivals = self.arrivals
        arrivals.take(data)
        if not arrivals.first.is_set():
            received = arrivals.bytes()
            if refused := refusal(received):
                arrivals.end(f"the request was refused with {refused}")
            elif b"data:" in received:
                arrivals.first.set()
        self._tail = (self._tail + data)[-8:]
        if self._tail.endswith(b"\r\n0\r\n\r\n"):
            arrivals.end()

    def connection_lost(self, exc: Exception | None) -> None:
        self.arrivals.end(f"the connection ended in the middle of an answer: {exc}")


class HttpClient:
    """Each answer has a connection of its own."""

    def __init__(self, address: str, model: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._model = model

    async def ask(self, tokens: int) -> Arrivals:
        """Asks for an answer of so many tokens; returns once the request is sent."""
        body = json.dumps(
            {
                "model": self._model,
                "messages": [{"role": "user", "content": "Count."}],
                "max_tokens": tokens,
                "stream": True,
            }
        )
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {self._host}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\n\r\n"
        )
        loop = asyncio.get_running_loop()
        transport, connection = await loop.create_connection(_Connection, self._host, self._port)
        connection.arrivals.ended.add_done_callback(lambda _ended: transport.close())
        transport.write((head + body).encode())
        return connection.arrivals

    def read(self, arrivals: Arrivals) -> Messages:
        """The chunks of an answer. Raises ValueError if it is not a whole answer with status 200."""
        data, times = arrivals.bytes(), arrivals.times()
        if not data.startswith(b"HTTP/1.1 200"):
            raise ValueError(f"the answer is {data[:300]!r}")
        begin, done = data.index(b"\r\n\r\n") + 4, False
        while not done:
            line = data.index(b"\r\n", begin)
            size = int(data[begin:line], 16)
            content, begin = data[line + 2 : line + 2 + size], line + 4 + size
            if not size:
                raise ValueError("the answer has no [DONE]")
            done = content.endswith(b"data: [DONE]\n\n")
            yield _read_chunk(content, times.until(begin))


def _read_chunk(content: bytes, at_s: float) -> Message:
    """What a chunk says. The router writes whole events into each chunk."""
    text, reason, worker_ms = "", "", 0.0
    for event in content.split(b"\n\n"):
        if not event.startswith(b"data: {"):
            continue
        document = orjson.loads(event[6:])
        if "error" in document:
            raise ValueError(f"the answer ends with {document}")
        choice = document["choices"][0]
        text += choice["delta"].get("content", "")
        reason = choice["finish_reason"] or reason
        worker_ms = document.get("timings", {}).get("predicted_ms", worker_ms)
    return Message(at_s, text, text.count(" "), reason, worker_ms)
