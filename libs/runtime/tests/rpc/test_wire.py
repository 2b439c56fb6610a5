"""The frames of an answer, read from the socket: an error before any message is a trailers-only response.

Envoy turns the trailing metadata of such a response, and of no other, into HTTP headers.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import pytest

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc
from infermesh_runtime.errors import Unavailable

if TYPE_CHECKING:
    from libs.runtime.tests.conftest import Serve

DATA, HEADERS, SETTINGS = 0, 1, 4
END_STREAM, END_HEADERS, ACK = 1, 4, 1


class Servicer(inference_pb2_grpc.InferenceServiceServicer):
    async def Health(self, request: pb.HealthRequest, context: Any) -> pb.HealthResponse:
        raise Unavailable("busy", retry_after_s=3)

    async def Generate(self, request: pb.GenerateRequest, context: Any) -> AsyncIterator[pb.GenerateResponse]:
        yield pb.GenerateResponse()
        raise Unavailable("busy")

    async def Embed(self, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:
        return pb.EmbedResponse()


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + payload


def headers(path: str) -> bytes:
    """HPACK, every header a literal without indexing."""
    fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "test"}
    fields |= {"te": "trailers", "content-type": "application/grpc"}
    return b"".join(b"\0" + b"".join(bytes([len(t)]) + t.encode() for t in item) for item in fields.items())


async def answer(port: int, method: str) -> list[tuple[int, bool]]:
    """(kind, whether it ends the stream) of each frame of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    path = f"/infermesh.inference.v1.InferenceService/{method}"
    request = frame(HEADERS, END_HEADERS, 1, headers(path)) + frame(DATA, END_STREAM, 1, bytes(5))
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0) + request)
    frames: list[tuple[int, bool]] = []
    while not (frames and frames[-1][1]):
        head = await asyncio.wait_for(reader.readexactly(9), 5)
        await reader.readexactly(int.from_bytes(head[:3]))
        if int.from_bytes(head[5:]) == 1:
            frames.append((head[3], bool(head[4] & END_STREAM)))
    writer.close()
    await writer.wait_closed()
    return [f for f in frames if f[0] in {DATA, HEADERS}]


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("Health", [(HEADERS, True)]),
        ("NoSuch", [(HEADERS, True)]),
        ("Generate", [(HEADERS, False), (DATA, False), (HEADERS, True)]),
        ("Embed", [(HEADERS, False), (DATA, False), (HEADERS, True)]),
    ],
)
async def test_frames(serve: "Serve", method: str, expected: list[tuple[int, bool]]) -> None:
    async with serve(Servicer()) as running:
        assert await answer(running.server.port, method) == expected
