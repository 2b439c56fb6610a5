"""Compares routing policies on simulated fleets in virtual time; the last line is a JSON document.

Round robin, random, least requests and infermesh's own classes (Fleet, Endpoint, Chooser) route the same requests to
fleets of three device classes. Workers report every 50 ms, and a report takes another 50 ms to arrive; the other
policies know their own requests in flight without delay.
"""

import argparse
import asyncio
import heapq
import itertools
import json
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import grpc

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from benchmarks.router.fleet_trace import Request, make_trace
from benchmarks.router.fleet_worker import MODEL, DeviceClass, Job, Worker
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.fleet.endpoint import Endpoint
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.fleet.reports.sent_work import Lease
from infermesh_router.policy.chooser import Chooser
from infermesh_router.policy.snapshot import Wanted

REPORT_EVERY_S = 0.05
REPORT_DELAY_S = 0.05
TTFT_SLO_S = 2.0
TPOT_SLO_S = 0.1
REQUESTS_PER_S_PER_ENDPOINT = 2.4
CLASSES = {
    "cuda": (0.2, DeviceClass(pb.DEVICE_KIND_CUDA, 20_000, 0.012, 0.00025, 200_000, 128)),
    "xpu": (0.3, DeviceClass(pb.DEVICE_KIND_XPU, 6_000, 0.020, 0.0005, 100_000, 64)),
    "cpu": (0.5, DeviceClass(pb.DEVICE_KIND_CPU, 1_200, 0.040, 0.002, 60_000, 32)),
}
"""Each class's share of the fleet, and what one endpoint of it can do."""
POLICIES = ("round_robin", "random", "least_requests", "infermesh")
CHOICE_BAR_US = 150.0
GOODPUT_BAR = 1.5


class _NoChannel:
    """Takes the place of an endpoint's connection: simulated workers are called, not connected to."""

    async def close(self) -> None:
        """Does nothing: there is no connection."""


class Simulation:
    """One policy on one fleet."""

    def __init__(self, devices: list[DeviceClass], policy: str) -> None:
        self.now_s = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        no_channel = cast(grpc.aio.Channel, _NoChannel())
        self.fleet = Fleet(open_channel=lambda _: no_channel, poll=_never, clock=lambda: self.now_s)
        self._addresses = [f"10.0.{i // 250}.{i % 250}:50051" for i in range(len(devices))]
        self.fleet.set_addresses(self._addresses)
        self._workers = {a: self._make_worker(d) for a, d in zip(self._addresses, devices, strict=True)}
        self._route = ROUTERS[policy](self)
        self._leases: dict[Job, tuple[Endpoint, Lease]] = {}
        self._reporting = policy == "infermesh"
        self.choices_s: list[float] = []

    def run(self, trace: list[Request]) -> list[Job]:
        """Routes every request and runs the fleet until all are done."""
        jobs = [Job(request) for request in trace]
        for job in jobs:
            self._at(job.request.at_s, partial(self._arrive, job))
        for index, address in enumerate(self._addresses if self._reporting else []):
            self._report(address)
            self._at(REPORT_EVERY_S * index / len(self._addresses), partial(self._report_later, address))
        self._left = len(jobs)
        while self._left:
            self.now_s, _, act = heapq.heappop(self._events)
            act()
        return jobs

    def _at(self, at_s: float, act: Callable[[], None]) -> None:
        heapq.heappush(self._events, (at_s, next(self._order), act))

    def _arrive(self, job: Job) -> None:
        began = time.perf_counter()
        job.address, prompt_tokens = self._route(job.request)
        self.choices_s.append(time.perf_counter() - began)
        endpoint = self.fleet.get(job.address)
        self._leases[job] = endpoint, endpoint.acquire(MODEL, prompt_tokens=prompt_tokens, sequences=1)
        self._workers[job.address].submit(job, self.now_s)

    def _finish(self, job: Job) -> None:
        endpoint, lease = self._leases.pop(job)
        endpoint.release(lease)
        self._left -= 1

    def _make_worker(self, device: DeviceClass) -> Worker:
        def wake(at_s: float, version: int) -> None:
            self._at(at_s, lambda: worker.advance(self.now_s) if worker.version == version else None)

        worker = Worker(device, wake, self._finish)
        return worker

    def _report(self, address: str) -> None:
        self.fleet.get(address).note_report(self._workers[address].report())

    def _report_later(self, address: str) -> None:
        """Sends a report if anything changed, which arrives later, and schedules the next one."""
        if self._workers[address].changed:
            report = self._workers[address].report()
            self._at(self.now_s + REPORT_DELAY_S, lambda: self.fleet.get(address).note_report(report))
        self._at(self.now_s + REPORT_EVERY_S, lambda: self._report_later(address))


Route = Callable[[Request], tuple[str, int]]


async def _never(_endpoint: Endpoint) -> None:
    await asyncio.Event().wait()


def _round_robin(simulation: Simulation) -> Route:
    turns = itertools.cycle([e.address for e in simulation.fleet.endpoints])
    return lambda request: (next(turns), request.prompt_tokens)


def _random(simulation: Simulation) -> Route:
    rng, addresses = random.Random(1), [e.address for e in simulation.fleet.endpoints]
    return lambda request: (rng.choice(addresses), request.prompt_tokens)


def _least_requests(simulation: Simulation) -> Route:
    rng, endpoints = random.Random(1), simulation.fleet.endpoints

    def route(request: Request) -> tuple[str, int]:
        fewest = min(e.in_flight for e in endpoints)
        return rng.choice([e for e in endpoints if e.in_flight == fewest]).address, request.prompt_tokens

    return route


def _infermesh(simulation: Simulation) -> Route:
    chooser, turns = Chooser(clock=lambda: simulation.now_s), itertools.count()

    def route(request: Request) -> tuple[str, int]:
        wanted = Wanted(model=MODEL, prompt_tokens=request.prompt_tokens, blocks=request.blocks)
        choice = chooser(simulation.fleet.snapshots, wanted, turn=next(turns))
        return choice.address, choice.prompt_tokens

    return route


ROUTERS: dict[str, Callable[[Simulation], Route]] = dict(
    zip(POLICIES, (_round_robin, _random, _least_requests, _infermesh), strict=True)
)


def mixed_fleet(endpoints: int) -> list[DeviceClass]:
    """Returns that many devices, in the shares of CLASSES and a fixed random order."""
    devices = [device for share, device in CLASSES.values() for _ in range(round(share * endpoints))]
    random.Random(0).shuffle(devices)
    return devices


async def compare(endpoints: int, duration_s: float, seed: int) -> dict[str, Any]:
    """Runs every policy on the same fleet and trace; returns their figures."""
    trace = make_trace(
        requests_per_s=REQUESTS_PER_S_PER_ENDPOINT * endpoints,
        duration_s=duration_s,
        groups=max(8, 2 * endpoints),
        seed=seed,
    )
    figures: dict[str, Any] = {"requests": len(trace)}
    for policy in POLICIES:
        simulation = Simulation(mixed_fleet(endpoints), policy)
        jobs = simulation.run(trace)
        figures[policy] = summarise(jobs, duration_s) | {"choice_us_p50": _micros(simulation.choices_s)}
        await simulation.fleet.close()
        print(f"{endpoints:5} endpoints  {policy:15} {_line(figures[policy])}", file=sys.stderr, flush=True)
    figures["goodput_over_round_robin"] = round(
        figures["infermesh"]["goodput_per_s"] / max(0.01, figures["round_robin"]["goodput_per_s"]), 3
    )
    figures["best_on_each_measure"] = all(_is_better(figures["infermesh"], figures[p]) for p in POLICIES[:-1])
    return figures


def summarise(jobs: list[Job], duration_s: float) -> dict[str, float]:
    """Returns the measures of one run."""
    ttft = sorted(job.ttft_s for job in jobs)
    good = sum(job.ttft_s <= TTFT_SLO_S and job.tpot_s <= TPOT_SLO_S for job in jobs)
    return {
        "ttft_s_p50": round(ttft[len(ttft) // 2], 4),
        "ttft_s_p99": round(ttft[int(len(ttft) * 0.99)], 4),
        "goodput_per_s": round(good / duration_s, 2),
        "good_share": round(good / len(jobs), 4),
        "cache_hit_rate": round(sum(j.cached_tokens for j in jobs) / sum(j.request.prompt_tokens for j in jobs), 4),
    }


def _is_better(ours: dict[str, float], other: dict[str, float]) -> bool:
    less = all(ours[name] < other[name] for name in ("ttft_s_p50", "ttft_s_p99"))
    return less and all(ours[name] > other[name] for name in ("goodput_per_s", "cache_hit_rate"))


def _micros(seconds: list[float]) -> float:
    return round(statistics.median(seconds) * 1e6, 1)


def _line(figures: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:g}" for name, value in figures.items())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--endpoints", type=int, nargs="+", default=[10, 100, 1000], help="sizes of the fleets to simulate"
    )
    parser.add_argument(
        "--seconds",
        type=float,
        default=None,
        help="length of the traces in virtual seconds; default: 16 to 64, shorter for larger fleets",
    )
    parser.add_argument("--seed", type=int, default=7, help="seed of the traces")
    return parser.parse_args()


def _durations(options: argparse.Namespace) -> Iterator[tuple[int, float]]:
    for endpoints in options.endpoints:
        yield endpoints, options.seconds or max(16.0, min(64.0, 6400 / endpoints))


def main() -> int:
    """Runs and prints everything; returns exit status 0 when every bar is met, else 1."""
    options = _options()
    fleets = {
        endpoints: asyncio.run(compare(endpoints, seconds, options.seed)) for endpoints, seconds in _durations(options)
    }
    met = {
        f"goodput ≥ {GOODPUT_BAR} x round robin": all(
            f["goodput_over_round_robin"] >= GOODPUT_BAR for f in fleets.values()
        ),
        "better on each measure": all(f["best_on_each_measure"] for f in fleets.values()),
        f"choice ≤ {CHOICE_BAR_US:g} us": all(
            f["infermesh"]["choice_us_p50"] <= CHOICE_BAR_US for f in fleets.values()
        ),
    }
    print(json.dumps({"benchmark": "fleet", "fleets": fleets, "bars_met": met}))
    return 0 if all(met.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
