"""Contestant: the whole mesh, asked through Envoy over plain sockets, one connection per stream.

The reader is written by hand because it shares two cores with the mesh, and a full HTTP client costs more per event
than the mesh does. It checks the status of each answer and the usage that its last event states.
"""

import asyncio
import json
import statistics
import sys
import time
from itertools import pairwise
from typing import Any

from benchmarks.contest.contestant import answer_rounds
from benchmarks.contest.prompts import NEW_TOKENS, prompts


def body(model: str, token_ids: list[int]) -> bytes:
    asked = {
        "model": model,
        "prompt": token_ids,
        "max_tokens": NEW_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    return json.dumps(asked).encode()


async def stream(port: int, model: str, token_ids: list[int]) -> tuple[int, list[float]]:
    """Returns the completion tokens that the usage event states, and when each piece of the stream arrived."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    payload = body(model, token_ids)
    head = ("POST /v1/completions HTTP/1.1", "Host: bench", "Content-Type: application/json")
    writer.write("\r\n".join((*head, f"Content-Length: {len(payload)}", "", "")).encode() + payload)
    arrivals: list[float] = []
    received = bytearray()
    while b"data: [DONE]" not in received[-64:]:
        chunk = await reader.read(65536)
        if not chunk:
            raise RuntimeError(f"The stream ended before [DONE]. Its last bytes: {bytes(received[-500:])!r}")
        received += chunk
        arrivals.append(time.perf_counter())
    writer.close()
    if not received.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(f"The mesh did not answer 200: {bytes(received[:500])!r}")
    usage = next(line for line in reversed(received.splitlines()) if b'"usage":{' in line)
    return int(json.loads(usage.removeprefix(b"data: "))["usage"]["completion_tokens"]), arrivals


async def run_all(port: int, model: str, round_number: int, streams: int) -> dict[str, Any]:
    began = time.perf_counter()
    results = await asyncio.gather(*(stream(port, model, ids) for ids in prompts(round_number, streams)))
    seconds = time.perf_counter() - began
    gaps = [b - a for _, arrivals in results for a, b in pairwise(arrivals)]
    return {
        "seconds": seconds,
        "tokens": sum(tokens for tokens, _ in results),
        "ttft_ms": statistics.median(arrivals[0] - began for _, arrivals in results) * 1e3,
        "itl_ms": statistics.median(gaps) * 1e3,
    }


def main(port: int, model: str) -> None:
    answer_rounds(lambda round_number, streams: asyncio.run(run_all(port, model, round_number, streams)))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
