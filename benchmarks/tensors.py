"""Measures tensors of several sizes through worker and router beside a bare gRPC echo, and batching at 32 clients.

    python -m benchmarks.tensors --seconds 5

One run has all rows: each size goes, one call after the other, to a bare grpcio echo, straight to a worker-cpu, and
through a router, in turns, so that all meet the same load of the machine. The model returns its input. The echo is a
server of grpcio in a process of its own that returns the bytes of the same message. Then 32 clients call a small model,
batched and one by one, and the same model in OpenVINO called directly. The last line is one JSON document.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import grpc
import numpy as np
import openvino as ov
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_runtime.rpc.options import CHANNEL_OPTIONS, SERVER_OPTIONS
from infermesh_runtime.tensors import from_numpy
from infermesh_worker.testing.processes import WorkerProcess
from tests.tensor_models.onnx_models import import_tensors, same, save, tensor

Call = Callable[[bytes], Awaitable[bytes]]
SIZES = {"1 KB": 1 << 10, "150 KB": 150 << 10, "8 MB": 8 << 20, "64 MB": 64 << 20}
CLIENTS, WIDTH, LAYERS = 32, 1024, 8
INFER = "/infermesh.inference.v1.InferenceService/Infer"


@dataclass(frozen=True, slots=True)
class Row:
    """What calls over one way took. A call's bytes count once, though they go there and back."""

    way: str
    size: str
    calls: int
    bytes_per_s: float
    requests_per_s: float
    p50_ms: float
    p99_ms: float


def row(way: str, size: str, size_bytes: int, took_s: Sequence[float], total_s: float) -> Row:
    p50, p99 = np.percentile(took_s, [50, 99])
    rate = len(took_s) / total_s
    return Row(way, size, len(took_s), rate * size_bytes, rate, float(p50) * 1e3, float(p99) * 1e3)


def raw(channel: grpc.aio.Channel) -> Call:
    """Calls Infer with serialised messages, so that the client's own work is the same on every way."""
    call: Call = channel.unary_unary(INFER)
    return call


async def serve_echo() -> None:
    """Returns the bytes of each request; prints the port."""

    async def echo(request: bytes, _context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        return request

    _, service, method = INFER.split("/")
    server = grpc.aio.server(options=SERVER_OPTIONS)
    handler = grpc.unary_unary_rpc_method_handler(echo)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {method: handler}),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


async def start_echo(stack: AsyncExitStack) -> str:
    command = (sys.executable, "-m", "benchmarks.tensors", "--echo")
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    stack.callback(process.kill)
    assert process.stdout is not None
    return f"127.0.0.1:{int(await process.stdout.readline())}"


async def measure_sizes(ways: dict[str, Call], seconds: float) -> list[Row]:
    rows = []
    for size, size_bytes in SIZES.items():
        x = np.random.default_rng(1).integers(0, 255, size_bytes, np.uint8)
        message = pb.InferRequest(model="same", inputs=[from_numpy(x, name="x")]).SerializeToString()
        took: dict[str, list[float]] = {way: [] for way in ways}
        for call in ways.values():
            await call(message)
        began_s = time.perf_counter()
        while time.perf_counter() - began_s < seconds * len(ways):
            for way, call in ways.items():
                at_s = time.perf_counter()
                await call(message)
                took[way].append(time.perf_counter() - at_s)
        rows += [row(way, size, size_bytes, times, sum(times)) for way, times in took.items()]
    return rows


async def measure_clients(way: str, call: Callable[[], Awaitable[bytes]], seconds: float) -> Row:
    """32 clients, each of which calls again as soon as it has its answer."""
    took: list[float] = []
    await call()
    end_s = time.perf_counter() + seconds

    async def client() -> None:
        while (at_s := time.perf_counter()) < end_s:
            await call()
            took.append(time.perf_counter() - at_s)

    began_s = time.perf_counter()
    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    return row(way, f"{CLIENTS} clients", WIDTH * 4, took, time.perf_counter() - began_s)


def small_model(path: Path) -> Path:
    """Layers of a network, 32 MB of weights, which a batch reads once: y [batch, WIDTH] of x [batch, WIDTH]."""
    random = np.random.default_rng(3)
    names = ["x", *(f"h{layer}" for layer in range(LAYERS - 1)), "y"]
    weights = [
        numpy_helper.from_array(random.standard_normal((WIDTH, WIDTH)).astype(np.float32) / WIDTH, f"w{layer}")
        for layer in range(LAYERS)
    ]
    nodes = [helper.make_node("MatMul", [names[layer], f"w{layer}"], [names[layer + 1]]) for layer in range(LAYERS)]
    return save(path, nodes, [tensor("x", ["batch", WIDTH])], [tensor("y", ["batch", WIDTH])], *weights)


async def measure_batching(call: Call, graph: Path, seconds: float) -> list[Row]:
    x: NDArray[np.float32] = np.random.default_rng(4).random((1, WIDTH), np.float32)
    rows = []
    for model in ("batched", "alone"):
        message = pb.InferRequest(model=model, inputs=[from_numpy(x, name="x")]).SerializeToString()
        rows.append(await measure_clients(f"router, {model}", partial(call, message), seconds))
    compiled = ov.compile_model(graph, "CPU", {"PERFORMANCE_HINT": "LATENCY"})
    took: list[float] = []
    began_s = time.perf_counter()
    while time.perf_counter() - began_s < seconds:
        at_s = time.perf_counter()
        compiled(x)
        took.append(time.perf_counter() - at_s)
    return [*rows, row("openvino called directly, one by one", "1 client", WIDTH * 4, took, sum(took))]


async def measure(seconds: float) -> list[Row]:
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="infermesh-tensors-")))
        root = home / "models"
        graph = small_model(home / "small.onnx")
        import_tensors(same(home / "same.onnx", TensorProto.UINT8), root, "same", max_batch=1)
        import_tensors(graph, root, "batched", max_batch=CLIENTS)
        import_tensors(graph, root, "alone", max_batch=1)
        worker = await WorkerProcess.start("infermesh_worker_cpu", home=home, models=root, model="same")
        stack.push_async_callback(worker.stop)
        address = await worker.ready()
        socket = f"unix:{home}/admin.sock"
        router = await WorkerProcess.start(
            "infermesh_router", workers=address, listen="127.0.0.1:0", metrics_listen="127.0.0.1:0", admin_listen=socket
        )
        stack.push_async_callback(router.stop)
        addresses = {"bare echo": await start_echo(stack), "worker": address, "router": await router.ready()}
        await router.wait_for(f"connected to endpoint {address}")
        ways: dict[str, Call] = {}
        for way, where in addresses.items():
            channel = grpc.aio.insecure_channel(where, options=CHANNEL_OPTIONS)
            ways[way] = raw(await stack.enter_async_context(channel))
        rows = await measure_sizes(ways, seconds)
        return rows + await measure_batching(ways["router"], graph, seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long each row is measured")
    parser.add_argument("--echo", action="store_true", help="be the echo server")
    options = parser.parse_args()
    if options.echo:
        asyncio.run(serve_echo())
        return
    rows = asyncio.run(measure(options.seconds))
    for each in rows:
        print(
            f"{each.way:38} {each.size:10} {each.calls:6} calls  {each.bytes_per_s / 1e6:9.1f} MB/s  "
            f"{each.requests_per_s:8.1f}/s  p50 {each.p50_ms:8.2f} ms  p99 {each.p99_ms:8.2f} ms"
        )
    print(json.dumps([asdict(each) for each in rows]))


if __name__ == "__main__":
    main()
