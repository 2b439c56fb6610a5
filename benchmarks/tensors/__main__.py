"""Measures tensors of several sizes over every way through the mesh beside peers, and batching at 32 clients.

    python -m benchmarks.tensors --seconds 5

One run has all rows. Each size goes, one call after the other, over all ways in turns: a bare grpcio echo, onnxruntime
in this process, straight to a worker-cpu, through the router, through Envoy and the router, in the Open Inference
Protocol over gRPC, shared memory and HTTP, and to MLServer with the same ONNX file. The model returns its input. Then
32 clients call a small model, batched and one by one. What a client does itself, such as to write JSON, is not in the
figures. The last line is one JSON document. MLServer is installed into build/venv-mlserver once; --peers no leaves it
out.
"""

import argparse
import asyncio
import subprocess
import sys
import tempfile
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import grpc
import onnxruntime as ort

from benchmarks.tensors.batching import measure_batching
from benchmarks.tensors.echo_server import start_echo
from benchmarks.tensors.mesh import start_mesh
from benchmarks.tensors.mlserver_start import start_mlserver
from benchmarks.tensors.models import ALONE, SAME, Graphs, write_models
from benchmarks.tensors.rows import Row, show
from benchmarks.tensors.shared import shared_memory
from benchmarks.tensors.sizes import SIZES, measure_sizes
from benchmarks.tensors.ways import Way, echo, kserve, native, rest_binary, rest_json, runtime
from infermesh_runtime.rpc.options import CHANNEL_OPTIONS


async def measure(seconds: float, *, with_peers: bool) -> list[Row]:
    """All rows, each measured for `seconds`."""
    async with AsyncExitStack() as parts:
        home = Path(parts.enter_context(tempfile.TemporaryDirectory(prefix="infermesh-tensors-")))
        graphs = write_models(home)
        direct = runtime("onnxruntime direct", {name: _session(graphs, name) for name in (SAME, ALONE)})
        peers = await _peers(home / "mlserver", graphs, parts) if with_peers else []
        ways, router = await _own(home, graphs, parts)
        rows = await measure_sizes([direct, *ways, *peers], seconds)
        return rows + await measure_batching([router, *peers], direct, graphs, seconds)


async def _own(home: Path, graphs: Graphs, parts: AsyncExitStack) -> tuple[list[Way], Way]:
    """The echo and all ways through the mesh, and of these the one whose batching is measured."""
    mesh = await start_mesh(home, graphs, parts)
    echoing, worker, router, envoy = [
        await _channel(address, parts)
        for address in (await start_echo(parts), mesh.worker, mesh.router, mesh.envoy_grpc)
    ]
    through_router = native("gRPC, router", router)
    ways = [
        echo("bare grpcio echo", echoing),
        native("gRPC, worker", worker),
        through_router,
        native("gRPC, Envoy and router", envoy),
        kserve("KServe gRPC, router", router),
        kserve("KServe gRPC, Envoy and router", envoy),
        await shared_memory("shared memory, router", router, max(SIZES.values()), parts.enter_context(ExitStack())),
        rest_binary("REST binary, Envoy and router", mesh.envoy_http),
        rest_json("REST JSON, Envoy and router", mesh.envoy_http),
    ]
    return ways, through_router


async def _peers(folder: Path, graphs: Graphs, parts: AsyncExitStack) -> list[Way]:
    """MLServer; nothing, and a line about it, where it cannot be installed."""
    try:
        address = await start_mlserver(folder, graphs, parts)
    except subprocess.CalledProcessError as error:
        print(f"without MLServer, which cannot be installed: {error}", file=sys.stderr)
        return []
    return [kserve("KServe gRPC, MLServer", await _channel(address, parts))]


async def _channel(address: str, parts: AsyncExitStack) -> grpc.aio.Channel:
    channel: grpc.aio.Channel = grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS)
    return await parts.enter_async_context(channel)


def _session(graphs: Graphs, model: str) -> ort.InferenceSession:
    return ort.InferenceSession(graphs.of(model), providers=["CPUExecutionProvider"])


def main() -> None:
    """Reads the command line, and prints the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each row is measured")
    parser.add_argument("--peers", choices=("yes", "no"), default="yes", help="whether MLServer is measured as well")
    options = parser.parse_args()
    show(asyncio.run(measure(options.seconds, with_peers=options.peers == "yes")))


if __name__ == "__main__":
    main()
