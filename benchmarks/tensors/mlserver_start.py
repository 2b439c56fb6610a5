"""Starts MLServer with the same ONNX files, in a venv of its own under build/, which is made once."""

import asyncio
import json
import subprocess
import sys
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

from benchmarks.router.overhead_parts import BUILD, free_port, run_process, wait_for_http
from benchmarks.tensors.models import ALONE, BATCHED, MAX_BATCH, SAME, Graphs
from infermesh_runtime.rpc.options import MAX_MESSAGE_BYTES

REQUIREMENTS = ("mlserver==1.7.1", "onnxruntime")
_MAX_BATCH_TIME_S = 0.005
"""Long enough for the requests of 32 clients to meet in a batch."""


async def start_mlserver(folder: Path, graphs: Graphs, parts: AsyncExitStack) -> str:
    """Starts a process that ends with `parts`; returns its gRPC address. Raises CalledProcessError and TimeoutError."""
    binaries = await asyncio.to_thread(_install)
    for model in (SAME, ALONE, BATCHED):
        _describe(folder / model, graphs.of(model))
    ports = {name: free_port() for name in ("http", "grpc", "metrics")}
    settings: dict[str, object] = {f"{name}_port": port for name, port in ports.items()}
    settings |= {"host": "127.0.0.1", "debug": False, "grpc_max_message_length": MAX_MESSAGE_BYTES}
    settings |= {"parallel_workers": 0}  # a pool of processes would copy each tensor twice more
    (folder / "settings.json").write_text(json.dumps(settings))
    command = [str(binaries / "mlserver"), "start", str(folder)]
    run_process(parts.enter_context(ExitStack()), command, {"PYTHONPATH": str(Path(__file__).parent / "peers")})
    await wait_for_http(f"127.0.0.1:{ports['http']}", "/v2/health/ready")
    return f"127.0.0.1:{ports['grpc']}"


def _describe(folder: Path, graph: Path) -> None:
    folder.mkdir(parents=True)
    settings: dict[str, object] = {
        "name": folder.name,
        "implementation": "onnx_for_mlserver.OnnxModel",
        "parameters": {"uri": str(graph)},
    }
    if folder.name == BATCHED:
        settings |= {"max_batch_size": MAX_BATCH, "max_batch_time": _MAX_BATCH_TIME_S}
    (folder / "model-settings.json").write_text(json.dumps(settings))


def _install() -> Path:
    binaries = BUILD / "venv-mlserver" / "bin"
    if not (binaries / "mlserver").exists():
        subprocess.run([sys.executable, "-m", "venv", str(binaries.parent)], check=True)
        quiet = ["--quiet", "--disable-pip-version-check"]
        subprocess.run([str(binaries / "pip"), "install", *quiet, *REQUIREMENTS], check=True, stdout=sys.stderr)
    return binaries
