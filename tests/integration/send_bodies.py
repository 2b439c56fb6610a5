"""Sends large bodies to a REST API, all at once, from a process of its own.

`python send_bodies.py HOST PORT KIND COUNT` prints how often each status came, as JSON. KIND is "messages" (28.6 MiB of
a million messages), "text" (60 MiB of text), or "stalled" (the same, but its last MiB does not come).
"""

import asyncio
import json
import sys
from collections import Counter

MIB = 1 << 20
END = b"}]}"


def make_body(kind: str) -> bytes:
    """The body of that kind."""
    if kind == "messages":
        message = b'{"role":"user","content":"hi"}'
        return b'{"model":"simulated","messages":[' + b",".join([message] * 1_000_000) + b"]}"
    text = b"words and \\u00e9\\n" * (60 * MIB // 18)
    return b'{"model":"simulated","messages":[{"role":"user","content":"' + text + b'"' + END


async def send(host: str, port: int, body: bytes, *, stalled: bool) -> int:
    """Posts the body; returns the status of the answer."""
    reader, writer = await asyncio.open_connection(host, port)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: {len(body)}\r\n\r\n"
    writer.write(head.encode())
    view = memoryview(body)[: len(body) - MIB * stalled]
    try:
        for at in range(0, len(view), MIB):
            writer.write(view[at : at + MIB])
            await writer.drain()
        answer = await reader.readline()
    finally:
        writer.close()
    return int(answer.split()[1])


async def send_all(host: str, port: int, kind: str, count: int) -> Counter[int]:
    """Sends that many bodies at once."""
    body = make_body(kind)
    return Counter(await asyncio.gather(*(send(host, port, body, stalled=kind == "stalled") for _ in range(count))))


if __name__ == "__main__":
    _, where, port_number, kind_of_body, how_many = sys.argv
    print(json.dumps(asyncio.run(send_all(where, int(port_number), kind_of_body, int(how_many)))))
