"""Offers a router ever more tokens a second, up to far beyond what it can write; prints a JSON document last.

`python -m benchmarks.router.saturation`. Workers without a model give each stream 125 tokens/s, so the rate grows with
the streams. Clients ask over gRPC, and over REST through Envoy. The knee is the first rate of which less than 95 %
arrives. It fails if goodput falls below 95 % of its maximum at a higher rate, or if the text of a stream is not exact.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import grpc
import psutil

from benchmarks.router.overhead_parts import free_port, run_envoy, run_process, run_router
from benchmarks.router.saturation.worker import STEP_S
from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.inference.v1 import inference_pb2_grpc as pb_grpc

MODEL = "offered"
KEPT = 0.95
"""Share of the offered rate, or of the maximum, that counts as all of it."""
_READY_S = 30
_ROOM = "benchmarks.router.saturation"

Row = dict[str, Any]


def start(parts: ExitStack, workers: int) -> tuple[dict[str, str], dict[str, list[psutil.Process]]]:
    """Starts everything. Returns the addresses by way, and the processes by name."""
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(workers)]
    command = [sys.executable, "-m", f"{_ROOM}.worker", "--listen"]
    running = [run_process(parts, [*command, address]) for address in addresses]
    router, process = run_router(parts, ",".join(addresses))
    http, envoy = run_envoy(parts, router)
    with grpc.insecure_channel(router) as channel:
        chat = pb.ChatPrompt(messages=[pb.ChatMessage(role="user", content="Count.")])
        request = pb.GenerateRequest(model=MODEL, chat=chat, stop=pb.StopConditions(max_tokens=2))
        for _ in range(2 * workers):
            list(pb_grpc.InferenceServiceStub(channel).Generate(request, timeout=_READY_S, wait_for_ready=True))
    return {"grpc": router, "rest": http}, {"router": [process], "envoy": [envoy], "workers": running}


def measure(
    way: str, addresses: dict[str, str], streams: int, seconds: float, processes: dict[str, list[psutil.Process]]
) -> Row:
    """The figures of one rate."""
    command = [sys.executable, "-m", f"{_ROOM}.client", "--way", way, "--address", addresses[way], "--model", MODEL]
    command += [
        "--streams",
        str(streams),
        "--seconds",
        str(seconds),
        "--metrics",
        f"http://{addresses['rest']}/metrics",
    ]
    for name, members in processes.items():
        command += ["--process", f"{name}={'+'.join(str(member.pid) for member in members)}"]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    row: Row = json.loads(done.stdout)
    return row


def judge(rows: Sequence[Row]) -> tuple[float, list[str]]:
    """The rate of the knee, 0 if all rates arrived; and what is wrong with the rates of one way, which climb."""
    wrong = [f"{row['streams']} streams: {problem}" for row in rows for problem in row["wrong"]]
    knee = next((row["offered_per_s"] for row in rows if row["delivered_per_s"] < KEPT * row["offered_per_s"]), 0.0)
    best = 0.0
    for row in rows:
        goodput = row["delivered_per_s"]
        best = max(best, goodput)
        if goodput < KEPT * best:
            offered = row["offered_per_s"]
            wrong.append(f"goodput falls from {best:.0f} to {goodput:.0f} tokens/s when {offered:.0f} are offered")
    return knee, wrong


def show(way: str, row: Row) -> None:
    """Prints one line."""
    cpu, share = row["cpu_us_per_token"], row["cpu_share"]
    print(
        f"{way} {row['streams']:3d} streams: offered {row['offered_per_s']:6.0f}/s, arrived"
        f" {row['delivered_per_s']:6.0f}/s in {row['messages_per_s']:5.0f} messages ({row['tokens_per_message']:4.1f}"
        f" tokens each); TTFT {row['ttft_p50_ms']:4.0f} p95 {row['ttft_p95_ms']:4.0f} ms, gap"
        f" {row['gap_p50_ms']:4.0f} p95 {row['gap_p95_ms']:4.0f} ms, behind {row['behind_ms']:5.0f} ms;"
        f" {row['frames_per_s']:4.0f} frames/s with {row['tokens_per_event']:4.1f} tokens an event; router"
        f" {cpu['router']:3.0f} µs a token, {100 * share['router']:3.0f} % CPU, {row['router_bytes'] / 2**20:.0f} MiB;"
        f" envoy {100 * share['envoy']:.0f} %, workers {100 * share['workers']:.0f} %,"
        f" client {100 * share['client']:.0f} %",
        file=sys.stderr,
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog=_ROOM, description=__doc__)
    parser.add_argument("--streams", default="16,64,128,240,480", help="how many streams at once, climbing, comma list")
    parser.add_argument("--ways", default="grpc,rest", help="what the clients speak, comma list")
    parser.add_argument("--workers", type=int, default=2, help="how many workers share the streams")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long each rate is measured")
    options = parser.parse_args()
    found: dict[str, Row] = {}
    wrong = []
    with ExitStack() as parts:
        addresses, processes = start(parts, options.workers)
        for way in options.ways.split(","):
            rows = []
            for streams in map(int, options.streams.split(",")):
                try:
                    row = measure(way, addresses, streams, options.seconds, processes)
                except subprocess.CalledProcessError:  # the client has said why
                    wrong.append(f"{way}, {streams} streams: the client failed")
                    continue
                rows.append(row)
                show(way, row)
            knee, problems = judge(rows)
            found[way] = {"knee_per_s": round(knee), "rates": rows}
            wrong += [f"{way}, {problem}" for problem in problems]
    for problem in wrong:
        print(problem, file=sys.stderr)
    print(json.dumps({"benchmark": "saturation", "step_s": STEP_S, "wrong": wrong, "results": found}))
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
