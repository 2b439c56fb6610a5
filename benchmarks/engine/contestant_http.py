"""Contestant: a server that speaks OpenAI's API, asked over plain sockets, one connection per stream.

The reader is written by hand because it shares two cores with the server, and a full HTTP client costs more per event
than the mesh does. It checks the status of each answer and the usage that its last event states.
"""

import asyncio
import json
import statistics
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contest.contestant import answer_rounds
from benchmarks.engine.questions import DRAWN, NEW_TOKENS, TEMPERATURE, TOP_P, Asked, Asker


def body(model: str, asked: Asked) -> bytes:
    fields = {
        "model": model,
        "prompt": asked.token_ids,
        "max_tokens": NEW_TOKENS,
        "temperature": TEMPERATURE if asked.sampled else 0,
        "seed": asked.seed,
        "ignore_eos": asked.ignore_eos,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    fields |= {"top_p": TOP_P} if asked.sampled else {}
    fields |= {"stop": asked.stop} if asked.stop else {}
    return json.dumps(fields).encode()


async def read(reader: asyncio.StreamReader) -> tuple[bytearray, list[float]]:
    """Returns the whole answer, and when each piece of its stream arrived."""
    arrivals: list[float] = []
    received = bytearray()
    while b"data: [DONE]" not in received[-64:]:
        chunk = await reader.read(65536)
        if not chunk:
            raise RuntimeError(f"The stream ended before [DONE]. Its last bytes: {bytes(received[-500:])!r}")
        received += chunk
        if arrivals or b"data:" in received:  # some servers send the head of the answer before its first token
            arrivals.append(time.perf_counter())
        elif not received.startswith(b"HTTP/1.1 200"[: len(received)]):
            raise RuntimeError(f"The server did not answer 200: {bytes(received[:500])!r}")
    return received, arrivals


async def stream(port: int, model: str, asked: Asked) -> tuple[int, list[float]]:
    """Returns the completion tokens that the usage event states, and when each piece of the stream arrived."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    payload = body(model, asked)
    head = ("POST /v1/completions HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json")
    writer.write("\r\n".join((*head, f"Content-Length: {len(payload)}", "", "")).encode() + payload)
    try:
        received, arrivals = await read(reader)
    finally:
        writer.close()
    usage = next(line for line in reversed(received.splitlines()) if b'"usage":{' in line)
    return int(json.loads(usage.removeprefix(b"data: "))["usage"]["completion_tokens"]), arrivals


async def run_all(port: int, model: str, requests: list[Asked]) -> dict[str, Any]:
    """Asks everything at once; times are in ms, and each gap is between two pieces of one stream."""
    began = time.perf_counter()
    results = await asyncio.gather(*(stream(port, model, asked) for asked in requests))
    seconds = time.perf_counter() - began
    gaps = [b - a for _, arrivals in results for a, b in pairwise(arrivals)]
    return {
        "seconds": seconds,
        "tokens": sum(tokens for tokens, _ in results),
        "ttft_ms": statistics.median(arrivals[0] - began for _, arrivals in results) * 1e3,
        **itl_figures(gaps),
    }


def itl_figures(gaps: Sequence[float]) -> dict[str, float]:
    """Median and 95th percentile, in ms, of gaps in seconds; 0 if there are none."""
    median, p95 = np.percentile(gaps or [0.0], [50, 95])
    return {"itl_ms": float(median) * 1e3, "itl_p95_ms": float(p95) * 1e3}


def main(port: int, model: str, folder: Path) -> None:
    asker = Asker(folder)

    def run(round_number: int, streams: int, name: str = DRAWN) -> dict[str, Any]:
        return asyncio.run(run_all(port, model, asker(round_number, streams, name)))

    answer_rounds(run)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
