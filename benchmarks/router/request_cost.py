"""Measures what a short request costs the router: streamed over gRPC and REST, whole, and for embeddings.

`python -m benchmarks.router.request_cost [--rounds 8] [--base DIR]`. A simulated worker answers with three tokens; the
clients call the router as Envoy does, so many at a time. The figure is the CPU time of the router's process for each
request, the least and the median of all rounds. `--base` is another checkout of this repository, whose router is
measured beside ours in every round: what else the machine does changes from minute to minute. The last line is one JSON
document.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path

import grpc
import psutil
import uvloop
from google.api.httpbody_pb2 import HttpBody

from benchmarks.router.front_share import cpu_ns, read, until_known
from benchmarks.router.overhead_parts import free_port, run_process
from infermesh.inference.v1 import inference_pb2 as pb

_TOKENS = 3
_PACKAGES = ("services/router/src", "libs/runtime/src", "protos")
_OPENAI = "/infermesh.openai.v1.OpenAIService/"
_GENERATE = "/infermesh.inference.v1.InferenceService/Generate"
_TEXT = "Tell me something about routers. " * 4
_CHAT = {"model": "simulated", "messages": [{"role": "user", "content": _TEXT}], "max_tokens": _TOKENS}


def calls() -> dict[str, tuple[str, bytes]]:
    """The method and the request of each kind."""
    generate = pb.GenerateRequest(
        chat=pb.ChatPrompt(messages=[pb.ChatMessage(role="user", content=_TEXT)]),
        model="simulated",
        stop=pb.StopConditions(max_tokens=_TOKENS, ignore_eos=True),
    )
    return {
        "grpc_stream": (_GENERATE, generate.SerializeToString()),
        "chat_stream": (f"{_OPENAI}CreateChatCompletion", _body(_CHAT | {"stream": True})),
        "chat_whole": (f"{_OPENAI}CreateChatCompletion", _body(_CHAT)),
        "embeddings": (f"{_OPENAI}CreateEmbedding", _body({"model": "vectors", "input": _TEXT})),
    }


def _body(document: Mapping[str, object]) -> bytes:
    body = HttpBody(data=json.dumps(document).encode(), content_type="application/json")
    return bytes(body.SerializeToString())


def start_worker(parts: ExitStack) -> str:
    """Starts a simulated worker that has a model for text and one for vectors; returns its address."""
    address = f"127.0.0.1:{free_port()}"
    settings = {"LISTEN": address, "SIM_ITL_S": "0.002", "SIM_SLOPE_S": "0", "SIM_PREFILL_TOKENS_PER_S": "1000000"}
    settings |= {"SIM_MODELS": "vectors:1KiB", "SIM_EMBEDDERS": "vectors"}
    run_process(parts, [sys.executable, "-m", "infermesh_worker.testing.simulated"], _variables(settings))
    return address


def start_router(parts: ExitStack, worker: str, checkout: Path | None) -> tuple[str, psutil.Process]:
    """Starts the router of a checkout, or ours; returns its address and process."""
    address = f"127.0.0.1:{free_port()}"
    environment = _variables({"LISTEN": address, "WORKERS": worker})
    if checkout is not None:
        environment["PYTHONPATH"] = os.pathsep.join(str(checkout / package) for package in _PACKAGES)
    return address, run_process(parts, [sys.executable, "-m", "infermesh_router"], environment)


def _variables(settings: Mapping[str, str]) -> dict[str, str]:
    return {f"INFERMESH_{name}": value for name, value in settings.items()}


async def cost_us(
    channel: grpc.aio.Channel, router: psutil.Process, call: tuple[str, bytes], *, streams: int, requests: int
) -> float:
    """The router's CPU time for a request, in µs."""

    async def ask() -> None:
        for _ in range(requests):
            await read(channel, *call)

    before_ns = cpu_ns(router.pid)
    await asyncio.gather(*(ask() for _ in range(streams)))
    return (cpu_ns(router.pid) - before_ns) / (streams * requests * 1000)


async def run(options: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """By contestant and kind of request: the cost in each round."""
    found: dict[str, dict[str, list[float]]] = {}
    asked = {name: call for name, call in calls().items() if name in options.kinds.split(",")}
    with ExitStack() as parts:
        worker = start_worker(parts)
        checkouts: dict[str, Path | None] = {"ours": None} | ({"base": options.base} if options.base else {})
        routers = {name: start_router(parts, worker, checkout) for name, checkout in checkouts.items()}
        channels = {name: grpc.aio.insecure_channel(address) for name, (address, _) in routers.items()}
        for channel in channels.values():
            for call in asked.values():
                await until_known(channel, *call)
        for number in range(options.rounds + 1):
            for kind, call in asked.items():
                for name, channel in channels.items():
                    cost = await cost_us(
                        channel, routers[name][1], call, streams=options.streams, requests=options.requests
                    )
                    if number:  # the first round warms up
                        found.setdefault(name, {}).setdefault(kind, []).append(cost)
        for channel in channels.values():
            await channel.close()
    return found


def summary(figures: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """By kind and contestant: the least and the median."""
    kinds = next(iter(figures.values()))
    return {
        kind: {
            name: {"least_us": round(min(own[kind])), "median_us": round(statistics.median(own[kind]))}
            for name, own in figures.items()
        }
        for kind in kinds
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.router.request_cost", description=__doc__)
    parser.add_argument("--rounds", type=int, default=8, help="how many rounds to measure, after one to warm up")
    parser.add_argument("--streams", type=int, default=16, help="how many clients ask at a time")
    parser.add_argument("--requests", type=int, default=20, help="how many requests each of them sends in a round")
    parser.add_argument("--kinds", default=",".join(calls()), help="which kinds of requests, comma list")
    parser.add_argument("--base", type=Path, help="another checkout, to compare with")
    options = parser.parse_args()
    document = {"benchmark": "request_cost", "streams": options.streams, "tokens": _TOKENS}
    print(json.dumps(document | {"results": summary(uvloop.run(run(options)))}))


if __name__ == "__main__":
    main()
