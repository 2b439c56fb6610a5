"""Measures the time and CPU that a router adds to a request, and compares it with others; prints a JSON document last.

A simulated worker gives each stream 200 tokens/s. Our router is compared with asking that worker directly. Other
routers speak only HTTP, so each is compared with asking a simulated OpenAI server of the same pace directly. Each round
runs the contestants one after another, with each number of streams. The added TTFT is a contestant's median minus the
direct median of the same round; the figure is the median over the rounds. CPU per token is taken from answers of 192
tokens; CPU per request from answers of 8 to 24 tokens, and includes those tokens. Each peer named in --peers is
installed in its own venv under build/.
"""

# ruff: noqa: E402 - `benchmarks` is found once the checkout is on the path

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
import uvloop

ROOM = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOM.parents[1]))

from benchmarks.router.http_stream import HttpStreams
from benchmarks.router.overhead_parts import (
    PEERS,
    Peer,
    free_port,
    run_envoy,
    run_peer,
    run_process,
    run_router,
    run_worker,
    wait_for_http,
)
from infermesh.inference.v1 import inference_pb2 as pb

ITL_S = 0.005
LONG_TOKENS = 192
"""Length of the answers that CPU per token is taken from; those that TTFT is taken from have 8 to 24 tokens."""
_GENERATE = "/infermesh.inference.v1.InferenceService/Generate"
_PROMPT = "Tell me something about routers. " * 4

Ask = Callable[[int, str, int], Awaitable[float]]
"""Given stream, prompt and tokens, reads a whole answer; returns the seconds until its first token."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to get tokens: direct, or through a router."""

    name: str
    direct: str
    """Name of the direct contestant that it is compared with; its own name if it is one."""
    ask: Ask
    processes: Sequence[psutil.Process] = ()
    """Processes whose CPU time counts."""


class GrpcStreams:
    """Streams over one gRPC channel, without parsing messages."""

    def __init__(self, address: str) -> None:
        self._channel = grpc.aio.insecure_channel(address)
        self._call = self._channel.unary_stream(_GENERATE)

    async def ask(self, stream: int, prompt: str, tokens: int) -> float:  # noqa: ARG002 - streams share the channel
        """Streams one answer to its end; returns the seconds until the event after `started`."""
        message = pb.ChatMessage(role="user", content=prompt)
        request = pb.GenerateRequest(
            chat=pb.ChatPrompt(messages=[message]),
            sampling=pb.SamplingParams(temperature=0),
            stop=pb.StopConditions(max_tokens=tokens, ignore_eos=True),
        )
        body, began_s, first_s, events = request.SerializeToString(), time.perf_counter(), 0.0, 0
        async for _ in self._call(body):
            events += 1
            if events == 2:
                first_s = time.perf_counter() - began_s
        return first_s


def http_ask(address: str, model: str) -> Ask:
    """Returns an `Ask` over HTTP with one connection per stream."""
    connections: dict[int, HttpStreams] = {}

    async def ask(stream: int, prompt: str, tokens: int) -> float:
        connection = connections.setdefault(stream, HttpStreams(address, model))
        return await connection.ask(prompt, tokens)

    return ask


async def measure(contestant: Contestant, streams: int, requests: int, seed: int) -> dict[str, float]:
    """Returns the median TTFT in ms, and CPU time in µs: per token of long answers, and per short request."""
    rng = random.Random(seed)
    await asyncio.gather(*(contestant.ask(i, _PROMPT, 2) for i in range(streams)))
    before_s = cpu_s(contestant.processes)

    async def run(stream: int) -> list[float]:
        times = []
        for number in range(requests):
            # Spread over the worker's step: otherwise a slightly later request would always wait one step more.
            await asyncio.sleep(rng.uniform(0, 2 * ITL_S))
            times.append(await contestant.ask(stream, f"{number} {_PROMPT}", rng.randint(8, 24)))
        return times

    times = [t for stream in await asyncio.gather(*map(run, range(streams))) for t in stream]
    between_s = cpu_s(contestant.processes)
    answers = 1 if streams > 1 else 3
    for _ in range(answers):
        await asyncio.gather(*(contestant.ask(i, _PROMPT, LONG_TOKENS) for i in range(streams)))
    after_s = cpu_s(contestant.processes)
    return {
        "ttft_ms": statistics.median(times) * 1e3,
        "cpu_us_per_token": (after_s - between_s) / (answers * streams * LONG_TOKENS) * 1e6,
        "cpu_us_per_request": (between_s - before_s) / (streams * requests) * 1e6,
    }


def cpu_s(processes: Sequence[psutil.Process]) -> float:
    """Returns the CPU seconds that the processes and their children have used, without children that end meanwhile."""
    total = 0.0
    for process in processes:
        total += sum(process.cpu_times()[:2])
        for child in process.children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                total += sum(child.cpu_times()[:2])
    return total


def start_ours(parts: ExitStack) -> list[Contestant]:
    """Starts the simulated worker, a router in front of it, and Envoy in front of that."""
    worker = run_worker(parts, ITL_S)
    router, router_process = run_router(parts, worker)
    calls, calls_process = run_router(parts, worker, frames=False)
    http, envoy_process = run_envoy(parts, router)
    return [
        Contestant("grpc_direct", "grpc_direct", GrpcStreams(worker).ask),
        Contestant("grpc_router", "grpc_direct", GrpcStreams(router).ask, [router_process]),
        Contestant("grpc_router_no_frames", "grpc_direct", GrpcStreams(calls).ask, [calls_process]),
        Contestant("rest_envoy_router", "grpc_direct", http_ask(http, "simulated"), [router_process, envoy_process]),
    ]


async def start_peers(parts: ExitStack, peers: Sequence[Peer]) -> list[Contestant]:
    """Starts the simulated OpenAI server and each peer in front of it; leaves out peers that do not start."""
    backend = f"127.0.0.1:{free_port()}"
    script = str(ROOM / "openai_backend.py")
    run_process(parts, [sys.executable, script, "--port", backend.rpartition(":")[2], "--itl-s", str(ITL_S)])
    await wait_for_http(backend, "/health")
    contestants = [Contestant("http_direct", "http_direct", http_ask(backend, "simulated"))]
    for peer in peers:
        try:
            address, process = await run_peer(parts, peer, backend)
            ask = http_ask(address, "simulated")
            await ask(0, "hello", 2)
        except (RuntimeError, OSError, TimeoutError, subprocess.CalledProcessError) as error:
            print(f"{peer.name} did not start and is left out: {error}", file=sys.stderr)
            continue
        contestants.append(Contestant(peer.name, "http_direct", ask, [process]))
    return contestants


async def run(options: argparse.Namespace) -> dict[str, Any]:
    """Runs all rounds; returns their figures."""
    chosen = [PEERS[name] for name in options.peers.split(",") if name]
    numbers = [int(number) for number in options.streams.split(",")]
    figures: dict[tuple[str, int], list[dict[str, float]]] = {}
    with ExitStack() as parts:
        contestants = start_ours(parts)
        if chosen:
            contestants += await start_peers(parts, chosen)
        for number in range(options.rounds):
            for streams in numbers:
                requests = max(2, options.requests // (4 if streams > 1 else 1))
                for contestant in contestants:
                    figure = await measure(contestant, streams, requests, seed=number)
                    figures.setdefault((contestant.name, streams), []).append(figure)
                    print(f"round {number} {streams:2d} {contestant.name:18s} {figure}", file=sys.stderr)
    return {"itl_s": ITL_S, "rounds": options.rounds, "contestants": summarise(contestants, figures, numbers)}


def summarise(
    contestants: Sequence[Contestant],
    figures: dict[tuple[str, int], list[dict[str, float]]],
    numbers: Sequence[int],
) -> dict[str, dict[str, dict[str, float]]]:
    """Returns the medians for each contestant and number of streams."""
    result: dict[str, dict[str, dict[str, float]]] = {}
    for contestant in contestants:
        for streams in numbers:
            own, direct = figures[contestant.name, streams], figures[contestant.direct, streams]
            added = [mine["ttft_ms"] - base["ttft_ms"] for mine, base in zip(own, direct, strict=True)]
            result.setdefault(contestant.name, {})[str(streams)] = {
                "ttft_p50_ms": round(statistics.median(f["ttft_ms"] for f in own), 3),
                "added_ttft_p50_ms": round(statistics.median(added), 3),
                "cpu_us_per_token": round(statistics.median(f["cpu_us_per_token"] for f in own), 1),
                "cpu_us_per_request": round(statistics.median(f["cpu_us_per_request"] for f in own), 1),
            }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how many rounds to measure")
    parser.add_argument(
        "--requests", type=int, default=60, help="requests of each stream in a round; a quarter with several streams"
    )
    parser.add_argument("--streams", default="1,16", help="how many streams to measure at once, comma list")
    parser.add_argument(
        "--peers",
        default=",".join(PEERS),
        help=f"other routers to measure, comma list of {', '.join(PEERS)}; empty: none",
    )
    print(json.dumps(uvloop.run(run(parser.parse_args()))))


if __name__ == "__main__":
    main()
