"""Simulates an OpenAI server over HTTP that streams tokens at a fixed pace, for routers that speak no gRPC.

The benchmark measures what a router adds in front of it, so it does as little as it can itself.
"""

import argparse
import asyncio
import json
from typing import Any

import h11
import uvloop

MODEL = "simulated"
_CHUNK = {"id": "chatcmpl-0", "object": "chat.completion.chunk", "created": 0, "model": MODEL}


def chunk(delta: dict[str, str], finish_reason: str | None = None) -> bytes:
    """Returns one server-sent event."""
    choices = [{"index": 0, "delta": delta, "finish_reason": finish_reason}]
    return b"data: " + json.dumps({**_CHUNK, "choices": choices}).encode() + b"\n\n"


class Connection:
    """One client connection, which carries one request after another."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, itl_s: float) -> None:
        self._reader = reader
        self._writer = writer
        self._itl_s = itl_s
        self._protocol = h11.Connection(h11.SERVER)

    async def serve(self) -> None:
        """Answers requests until the client closes the connection."""
        try:
            while (request := await self._event()) is not None and isinstance(request, h11.Request):
                body = await self._body()
                await self._answer(request, body)
                if self._protocol.our_state is h11.MUST_CLOSE:
                    break
                self._protocol.start_next_cycle()
        except (ConnectionError, h11.ProtocolError):
            pass
        finally:
            self._writer.close()

    async def _event(self) -> Any:
        while (event := self._protocol.next_event()) is h11.NEED_DATA:
            self._protocol.receive_data(await self._reader.read(65536))
        return None if isinstance(event, h11.ConnectionClosed) else event

    async def _body(self) -> bytes:
        body = b""
        while isinstance(event := await self._event(), h11.Data):
            body += event.data
        return body

    async def _answer(self, request: h11.Request, body: bytes) -> None:
        if request.method == b"POST" and b"completions" in request.target:
            await self._stream(int(json.loads(body).get("max_tokens") or 16))
            return
        listed = {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "benchmark"}]}
        document = listed if b"models" in request.target else {"status": "ok", "model_path": MODEL}
        self._send(h11.Response(status_code=200, headers=[("content-type", "application/json")]))
        self._send(h11.Data(json.dumps(document).encode()))
        self._send(h11.EndOfMessage())
        await self._writer.drain()

    async def _stream(self, tokens: int) -> None:
        self._send(h11.Response(status_code=200, headers=[("content-type", "text/event-stream")]))
        clock = asyncio.get_running_loop().time
        due_s = clock()
        for _ in range(tokens):
            due_s += self._itl_s
            await asyncio.sleep(max(0.0, due_s - clock()))
            self._send(h11.Data(chunk({"content": "x"})))
        self._send(h11.Data(chunk({}, "stop") + b"data: [DONE]\n\n"))
        self._send(h11.EndOfMessage())
        await self._writer.drain()

    def _send(self, event: Any) -> None:
        self._writer.write(self._protocol.send(event) or b"")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="port of 127.0.0.1 to listen on")
    parser.add_argument("--itl-s", type=float, default=0.005, help="time between two tokens of a stream, in seconds")
    options = parser.parse_args()
    server = await asyncio.start_server(
        lambda reader, writer: Connection(reader, writer, options.itl_s).serve(), "127.0.0.1", options.port
    )
    print(json.dumps({"ready": True}), flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(main())
