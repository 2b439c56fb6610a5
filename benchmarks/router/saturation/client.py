"""Asks for many streams at once in a process of its own, and prints what came of them, as JSON.

`python -m benchmarks.router.saturation.client --way grpc --address host:port --streams 64`. It keeps bytes while it
measures, and reads them afterwards. A window of time counts, in which all streams run; short requests are asked in it
beside them, to measure the time to first token.
"""

import argparse
import asyncio
import itertools
import json
import os
import re
import statistics
import time
import urllib.request
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import psutil
import uvloop

from benchmarks.router.saturation.arrivals import Arrivals, Message, Messages
from benchmarks.router.saturation.grpc_client import GrpcClient
from benchmarks.router.saturation.http_client import HttpClient
from benchmarks.router.saturation.worker import STEP_S, word

SETTLE_S = 0.5
"""Between the first token of the last stream and the window."""
BEFORE_S = 8.0
"""Longest time from the first request to the window."""
PROBE_TOKENS = 4
PROBES_PER_S = 8
_COUNTS = ("infermesh:router_frames_total", "infermesh:router_frame_events_total")
END_S = 60.0
"""Within this time after the window, every answer must have ended."""


class Client(Protocol):
    """One way to ask."""

    async def ask(self, tokens: int) -> Arrivals: ...

    def read(self, arrivals: Arrivals) -> Messages: ...


CLIENTS: dict[str, type[GrpcClient] | type[HttpClient]] = {"grpc": GrpcClient, "rest": HttpClient}


@dataclass(frozen=True, slots=True)
class Processes:
    """What is measured."""

    pids: dict[str, list[int]]
    """By name; "router" is one of them."""
    metrics: str = ""
    """Where the router tells its metrics; empty: nowhere."""


@dataclass(frozen=True, slots=True)
class Reading:
    """What was used, and came from workers, until then."""

    at_s: float
    cpu_s: dict[str, float]
    frames: float
    events: float


async def read_all(processes: Processes) -> Reading:
    """A reading now. That of the metrics comes a little later."""
    at_s = time.perf_counter()
    pids = {**processes.pids, "client": [os.getpid()]}
    cpu_s = {name: sum(sum(psutil.Process(pid).cpu_times()[:2]) for pid in own) for name, own in pids.items()}
    text = await asyncio.to_thread(_fetch, processes.metrics) if processes.metrics else ""
    frames, events = (sum(map(float, re.findall(rf"^{name}{{.*}} (\S+)$", text, re.MULTILINE))) for name in _COUNTS)
    return Reading(at_s, cpu_s, frames, events)


def _fetch(url: str) -> str:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return str(answer.read().decode())


def _rss_bytes(pids: Sequence[int]) -> int:
    return sum(psutil.Process(pid).memory_info().rss for pid in pids)


@dataclass(frozen=True, slots=True)
class Run:
    """What was asked, and when."""

    streams: list[Arrivals]
    probes: list[Arrivals]
    tokens: int
    before: Reading
    after: Reading
    most_bytes: int


async def ask_all(client: Client, streams: int, seconds: float, processes: Processes) -> Run:
    """Runs the streams and the probes to their ends. Raises RuntimeError if one fails or takes too long."""
    tokens = round((BEFORE_S + seconds) / STEP_S)
    asked_s = time.perf_counter()
    answers = [await client.ask(tokens) for _ in range(streams)]
    async with asyncio.timeout(END_S):
        await asyncio.gather(*(arrivals.begun() for arrivals in answers))
    await asyncio.sleep(SETTLE_S)
    before, most_bytes = await read_all(processes), 0
    if before.at_s > asked_s + BEFORE_S:
        late_s = before.at_s - asked_s
        raise RuntimeError(f"It took {late_s:.1f} s until all streams ran; at most {BEFORE_S:g} s may pass.")
    probes = []
    for _ in range(round(seconds * PROBES_PER_S)):
        probes.append(await client.ask(PROBE_TOKENS))
        await asyncio.sleep(1 / PROBES_PER_S)
        most_bytes = max(most_bytes, _rss_bytes(processes.pids["router"]))
    after = await read_all(processes)
    async with asyncio.timeout(END_S):
        await asyncio.gather(*(arrivals.ended for arrivals in (*answers, *probes)))
    return Run(answers, probes, tokens, before, after, most_bytes)


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run shows. Times are in ms, but CPU in µs."""

    streams: int
    offered_per_s: float
    delivered_per_s: float
    messages_per_s: float
    tokens_per_message: float
    frames_per_s: float
    """From all workers together."""
    tokens_per_event: float
    """Of the events in them: what workers had merged before."""
    ttft_p50_ms: float
    ttft_p95_ms: float
    gap_p50_ms: float
    gap_p95_ms: float
    behind_ms: float
    """How long ago the worker had the latest token that has come at the end of the window: the median of streams."""
    cpu_us_per_token: dict[str, float]
    """Of each process. That of requests is in it."""
    cpu_share: dict[str, float]
    router_bytes: int
    wrong: list[str]
    """What was wrong with answers; some of it."""


def figures(client: Client, run: Run) -> Figures:
    """Reads all answers."""
    found = [list(client.read(arrivals)) for arrivals in run.streams]
    probes = [list(client.read(arrivals)) for arrivals in run.probes]
    begin_s, end_s = run.before.at_s, run.after.at_s
    inside = [[each for each in messages if begin_s <= each.at_s < end_s and each.tokens] for messages in found]
    tokens, seconds = sum(each.tokens for messages in inside for each in messages), end_s - begin_s
    count = sum(map(len, inside))
    gaps = [b.at_s - a.at_s for messages in inside for a, b in itertools.pairwise(messages)]
    ttft = [
        next(each.at_s for each in messages if each.tokens) - arrivals.began_s
        for messages, arrivals in zip(probes, run.probes, strict=True)
    ]
    spent = {name: run.after.cpu_s[name] - before_s for name, before_s in run.before.cpu_s.items()}
    return Figures(
        streams=len(found),
        offered_per_s=sum(1000 * run.tokens / messages[-1].worker_ms for messages in found if messages[-1].worker_ms),
        delivered_per_s=tokens / seconds,
        messages_per_s=count / seconds,
        tokens_per_message=tokens / max(1, count),
        frames_per_s=(run.after.frames - run.before.frames) / seconds,
        tokens_per_event=tokens / max(1.0, run.after.events - run.before.events),
        ttft_p50_ms=1000 * _quantile(ttft, 50),
        ttft_p95_ms=1000 * _quantile(ttft, 95),
        gap_p50_ms=1000 * _quantile(gaps, 50),
        gap_p95_ms=1000 * _quantile(gaps, 95),
        behind_ms=statistics.median(_behind_ms(messages, end_s) for messages in found),
        cpu_us_per_token={name: 1e6 * cpu_s / max(1, tokens) for name, cpu_s in spent.items()},
        cpu_share={name: cpu_s / seconds for name, cpu_s in spent.items()},
        router_bytes=run.most_bytes,
        wrong=[*_wrong(found, run.tokens), *_wrong(probes, PROBE_TOKENS)][:5],
    )


def _behind_ms(messages: Sequence[Message], at_s: float) -> float:
    """The steps since a stream's first token, less those whose tokens have come."""
    came = [each for each in messages if each.tokens and each.at_s < at_s]
    steps = (at_s - came[0].at_s) / STEP_S
    return 1000 * STEP_S * max(0.0, steps - sum(each.tokens for each in came))


def _quantile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100, method="inclusive")[percent - 1] if len(values) > 1 else 0.0


def _wrong(answers: Sequence[Sequence[Message]], tokens: int) -> list[str]:
    """What answers should not be like."""
    expected = "".join(map(word, range(tokens)))
    found = []
    for messages in answers:
        text = "".join(each.text for each in messages)
        reason, count = messages[-1].finish_reason, sum(each.tokens for each in messages)
        if text != expected or reason != "length" or count != tokens:
            found.append(f"{count} tokens of {tokens}, finish reason {reason!r}, text ends {text[-30:]!r}")
    return found


async def main_async(options: argparse.Namespace) -> None:
    """Runs, and prints the figures."""
    client = CLIENTS[options.way](options.address, options.model)
    pids = {name: list(map(int, own.split("+"))) for name, _, own in (each.partition("=") for each in options.process)}
    run = await ask_all(client, options.streams, options.seconds, Processes(pids, options.metrics))
    print(json.dumps(asdict(figures(client, run))))


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.router.saturation.client", description=__doc__)
    parser.add_argument("--way", choices=tuple(CLIENTS), required=True, help="what to speak")
    parser.add_argument("--address", required=True, help="host:port")
    parser.add_argument("--model", default="offered", help="name of the model to ask")
    parser.add_argument("--streams", type=int, default=16, help="how many streams to run at once")
    parser.add_argument("--seconds", type=float, default=4.0, help="length of the window that counts")
    parser.add_argument("--process", action="append", default=[], help="NAME=PID+PID..., whose CPU counts; has router")
    parser.add_argument("--metrics", default="", help="URL of the router's metrics")
    uvloop.run(main_async(parser.parse_args()))


if __name__ == "__main__":
    main()
