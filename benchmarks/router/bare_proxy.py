"""Measures our router beside a proxy of twenty lines on grpc.aio: what gRPC for Python costs, and what we add to it.

`python -m benchmarks.router.bare_proxy [--rounds 5] [--streams 16]`. The proxy passes the messages of a simulated
worker on as they are: no parsing, choice, retries, logs or metrics. The figures are the CPU time of each process, the
medians of the rounds. The last line is one JSON document.
"""

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack
from typing import Any

import grpc
import uvloop

from benchmarks.router.overhead_parts import free_port, run_process, run_router, run_worker
from benchmarks.router.router_overhead import ITL_S, Contestant, GrpcStreams, measure

SERVICE = "infermesh.inference.v1.InferenceService"
_READY_S = 60.0


async def serve(listen: str, worker: str) -> None:
    """Runs the proxy."""
    channel = grpc.aio.insecure_channel(worker)
    call = channel.unary_stream(f"/{SERVICE}/Generate")

    async def generate(request: bytes, context: Any) -> None:
        messages: AsyncIterator[bytes] = call(request)
        async for message in messages:
            await context.write(message)

    server = grpc.aio.server()
    handlers = {"Generate": grpc.unary_stream_rpc_method_handler(generate)}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(SERVICE, handlers)])
    server.add_insecure_port(listen)
    await server.start()
    await server.wait_for_termination()


async def until_ready(contestant: Contestant) -> None:
    """Waits until it answers."""
    async with asyncio.timeout(_READY_S):
        while True:
            try:
                await contestant.ask(0, "hello", 2)
            except grpc.aio.AioRpcError:
                await asyncio.sleep(0.1)
            else:
                return


async def run(rounds: int, streams: int) -> dict[str, dict[str, float]]:
    """By contestant: its figures."""
    found: dict[str, list[dict[str, float]]] = {}
    with ExitStack() as parts:
        worker = run_worker(parts, ITL_S)
        router, router_process = run_router(parts, worker)
        listen = f"127.0.0.1:{free_port()}"
        proxy_process = run_process(parts, [sys.executable, "-m", __spec__.name, "--serve", listen, "--worker", worker])
        contestants = [
            Contestant("bare proxy", "bare proxy", GrpcStreams(listen).ask, [proxy_process]),
            Contestant("router", "bare proxy", GrpcStreams(router).ask, [router_process]),
        ]
        for contestant in contestants:
            await until_ready(contestant)
        for number in range(rounds):
            for contestant in contestants:
                figure = await measure(contestant, streams, 10, seed=number)
                found.setdefault(contestant.name, []).append(figure)
                print(f"round {number} {contestant.name:12s} {figure}", file=sys.stderr)
    return {
        name: {key: round(statistics.median(each[key] for each in figures), 1) for key in figures[0]}
        for name, figures in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.router.bare_proxy", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="how many rounds to measure")
    parser.add_argument("--streams", type=int, default=16, help="how many streams to run at once")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(serve(options.serve, options.worker))
        return
    found = uvloop.run(run(options.rounds, options.streams))
    print(json.dumps({"benchmark": "bare_proxy", "streams": options.streams, "results": found}))


if __name__ == "__main__":
    main()
