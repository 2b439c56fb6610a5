"""Asks for Generate streams over HTTP/2, written and read by hand: gRPC's own client costs as much as the router."""

import asyncio
import struct
from typing import cast

from benchmarks.router.saturation.arrivals import Arrivals, Message, Messages
from infermesh.inference.v1 import inference_pb2 as pb

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW = 0, 1, 3, 4, 6, 7, 8
_TABLE_SIZE, _INITIAL_WINDOW = 1, 4
"""Numbers of the settings."""
_END_STREAM, _END_HEADERS, _ACK = 1, 4, 1
_LARGEST_WINDOW = (1 << 31) - 1
_REASONS = {pb.FINISH_REASON_LENGTH: "length", pb.FINISH_REASON_STOP: "stop"}


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _header(name: str, value: str) -> bytes:
    """A header that goes into no table."""
    return b"\0%c%b%c%b" % (len(name), name.encode(), len(value), value.encode())


def _spelled_out(headers: bytes, name: bytes) -> str:
    """The value of a header; empty without it.

    gRPC's server uses no Huffman code, and spells all headers out to clients that remember none.
    """
    _, found, rest = headers.partition(name)
    if not found:
        return ""
    size, begin = rest[0], 1
    if size == 127:  # and what follows, seven bits a byte
        more = True
        while more:
            size += (rest[begin] & 127) << 7 * (begin - 1)
            more = rest[begin] > 127
            begin += 1
    return rest[begin : begin + size].decode(errors="replace")


class _Connection(asyncio.Protocol):
    """The answers of all streams. Windows are so large that the router never waits for the client."""

    def __init__(self) -> None:
        self.answers: dict[int, Arrivals] = {}
        self._lost = ""
        self._buffer = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        settings = struct.pack(">HIHI", _TABLE_SIZE, 0, _INITIAL_WINDOW, _LARGEST_WINDOW)
        more = struct.pack(">I", _LARGEST_WINDOW - 65535)
        self._transport.write(_PREFACE + _frame(_SETTINGS, 0, 0, settings) + _frame(_WINDOW, 0, 0, more))

    def data_received(self, data: bytes) -> None:
        data, begin = self._buffer + data, 0
        while len(data) - begin >= 9:
            size = int.from_bytes(data[begin : begin + 3], "big")
            if len(data) - begin - 9 < size:
                break
            kind, flags, stream = struct.unpack_from(">BBI", data, begin + 3)
            self._take(kind, flags, stream, data[begin + 9 : begin + 9 + size])
            begin += 9 + size
        self._buffer = data[begin:]

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost = f"the connection ended in the middle of an answer: {exc}"
        for arrivals in self.answers.values():
            arrivals.end(self._lost)

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == _DATA:
            arrivals = self.answers[stream]
            arrivals.take(payload)
            arrivals.first.set()
        elif kind in (_SETTINGS, _PING) and not flags & _ACK:
            self._transport.write(_frame(kind, _ACK, 0, payload if kind == _PING else b""))
        elif kind == _RESET:
            self.answers[stream].end(f"the answer was reset: {payload!r}")
        elif kind == _GOAWAY:
            self.connection_lost(None)
        elif kind == _HEADERS and flags & _END_STREAM:
            status, message = _spelled_out(payload, b"grpc-status"), _spelled_out(payload, b"grpc-message")
            self.answers[stream].end("" if status == "0" else f"the answer ended with grpc-status {status}: {message}")

    def send(self, stream: int, headers: bytes, message: bytes) -> Arrivals:
        """Sends a request."""
        arrivals = self.answers[stream] = Arrivals()
        body = struct.pack(">BI", 0, len(message)) + message
        self._transport.write(
            _frame(_HEADERS, _END_HEADERS, stream, headers) + _frame(_DATA, _END_STREAM, stream, body)
        )
        if self._lost:
            arrivals.end(self._lost)
        return arrivals


class GrpcClient:
    """All answers come over one connection."""

    def __init__(self, address: str, model: str) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._model = model
        self._connection: _Connection | None = None
        self._last = -1
        self._headers = b"".join(
            [
                _header(":method", "POST"),
                _header(":scheme", "http"),
                _header(":path", "/infermesh.inference.v1.InferenceService/Generate"),
                _header(":authority", address),
                _header("te", "trailers"),
                _header("content-type", "application/grpc"),
            ]
        )

    async def ask(self, tokens: int) -> Arrivals:
        """Asks for an answer of so many tokens; returns once the request is sent."""
        if self._connection is None:
            loop = asyncio.get_running_loop()
            _, self._connection = await loop.create_connection(_Connection, self._host, self._port)
        chat = pb.ChatPrompt(messages=[pb.ChatMessage(role="user", content="Count.")])
        request = pb.GenerateRequest(model=self._model, chat=chat, stop=pb.StopConditions(max_tokens=tokens))
        self._last += 2
        return self._connection.send(self._last, self._headers, request.SerializeToString())

    def read(self, arrivals: Arrivals) -> Messages:
        """The messages of an answer."""
        data, times, begin = arrivals.bytes(), arrivals.times(), 0
        while begin < len(data):
            (size,) = struct.unpack_from(">I", data, begin + 1)
            response = pb.GenerateResponse.FromString(data[begin + 5 : begin + 5 + size])
            begin += 5 + size
            at_s, finished = times.until(begin), response.finished
            if response.HasField("finished"):
                reason = _REASONS.get(finished.finish_reason, "other")
                yield Message(at_s, "", 0, reason, finished.timings.completion_ms)
            else:
                yield Message(at_s, response.delta.text, len(response.delta.token_ids))
