"""Measures the CPU that a token costs with one router behind Envoy and with several; prints a JSON document last.

One simulated worker sends streams through 1 and through N routers in each round, as many to each router, because tokens
of one step cost less together. Tokens a second grow with the routers where there are cores for them, as long as a token
costs no more: where there are none, that is the figure.
"""

# ruff: noqa: E402 - `benchmarks` is found once the checkout is on the path

import argparse
import asyncio
import json
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import uvloop

ROOM = Path(__file__).resolve().parent
sys.path.insert(0, str(ROOM.parents[1]))

from benchmarks.router.overhead_parts import free_port, run_envoy, run_router, run_worker
from benchmarks.router.router_overhead import Contestant, cpu_s, http_ask

ITL_S = 0.01
_PROMPT = "Tell me something about routers. " * 4


def start(parts: ExitStack, worker: str, count: int) -> Contestant:
    """Starts so many routers in front of the worker, and Envoy in front of them."""
    folder = Path(f"/tmp/infermesh-bench-{free_port()}")
    admins = [f"unix:{folder}-{index}.sock" for index in range(count)]
    routers = []
    for index in range(count):
        others = ",".join(admin for admin in admins if admin != admins[index])
        more: dict[str, Any] = {"ADMIN_LISTEN": admins[index], "SIBLINGS": others, "ROUTER_COUNT": str(count)}
        routers.append(run_router(parts, worker, **more))
    addresses = [address for address, _ in routers]
    http, _ = run_envoy(parts, *addresses)
    return Contestant(f"{count} routers", "", http_ask(http, "simulated"), [process for _, process in routers])


async def measure(contestant: Contestant, streams: int, tokens: int) -> dict[str, float]:
    """CPU of the routers, in µs a token, and the smallest share of it that one of them had."""
    await asyncio.gather(*(contestant.ask(i, _PROMPT, 2) for i in range(streams)))
    before = [cpu_s([process]) for process in contestant.processes]
    await asyncio.gather(*(contestant.ask(i, _PROMPT, tokens) for i in range(streams)))
    spent = [cpu_s([each]) - earlier for each, earlier in zip(contestant.processes, before, strict=True)]
    return {"cpu_us_per_token": sum(spent) / (streams * tokens) * 1e6, "least_share": min(spent) / sum(spent)}


async def run(options: argparse.Namespace) -> dict[str, object]:
    """Runs all rounds; returns the medians."""
    with ExitStack() as parts:
        worker = run_worker(parts, ITL_S)
        contestants = [start(parts, worker, count) for count in (1, options.routers)]
        figures: dict[str, list[dict[str, float]]] = {}
        for number in range(options.rounds):
            for contestant in contestants:
                figure = await measure(contestant, options.streams * len(contestant.processes), options.tokens)
                figures.setdefault(contestant.name, []).append(figure)
                print(f"round {number} {contestant.name:10s} {figure}", file=sys.stderr)
    return {"streams_per_router": options.streams, **{name: _medians(rounds) for name, rounds in figures.items()}}


def _medians(rounds: Sequence[dict[str, float]]) -> dict[str, float]:
    return {key: round(statistics.median(each[key] for each in rounds), 2) for key in rounds[0]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--routers", type=int, default=2, help="how many routers one is compared with")
    parser.add_argument("--streams", type=int, default=16, help="how many streams run at a time, for each router")
    parser.add_argument("--tokens", type=int, default=192, help="length of each answer")
    parser.add_argument("--rounds", type=int, default=5, help="how many rounds to measure")
    options = parser.parse_args()
    print(json.dumps({**uvloop.run(run(options)), "cores": psutil.cpu_count()}))


if __name__ == "__main__":
    main()
