"""Measures what a written message of a stream costs the server's process, by server; prints a JSON document last.

`python benchmarks/router/written_message.py [--streams 16] [--rounds 5]`, in an environment that has grpcio, uvloop,
psutil, and pygrpc-native where its servers are to be measured; nothing of infermesh is needed. Each server writes the
same event of 250 bytes to each of its streams, paced as one step of an engine paces them: all streams at once, every
5 ms. The client reads without parsing, in this process. The figure is the server's CPU time for each message, all of
its threads counted: the median of the rounds, in each of which the servers run one after another.
"""

import argparse
import asyncio
import importlib
import importlib.util
import json
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from typing import Any

import grpc
import psutil
import uvloop

METHOD = "/bench.Bench/Stream"
STEP_S = 0.005
EVENT = b"data: " + b"x" * 243 + b"\n\n"
_READY_S = 30.0


async def paced(messages: int, send: Callable[[bytes], Awaitable[None]]) -> None:
    """Sends `messages` events, one every step, at the steps' common times."""
    for step in range(messages):
        if step:
            now_s = time.monotonic()
            await asyncio.sleep((int(now_s / STEP_S) + 1) * STEP_S - now_s)
        await send(EVENT)


def handlers() -> list[grpc.GenericRpcHandler]:
    """The service of both asyncio servers."""

    async def stream(request: bytes, context: Any) -> None:
        await paced(int(request), context.write)

    handler = {"Stream": grpc.unary_stream_rpc_method_handler(stream)}
    return [grpc.method_handlers_generic_handler("bench.Bench", handler)]


async def serve_grpc_aio(port: int) -> None:
    """Serves by grpc.aio."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(handlers())
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


async def serve_native_aio(port: int) -> None:
    """Serves by pygrpc-native's server behind grpc.aio's API."""
    # Only where it is installed; `from pygrpc_native import aio` recurses without end in 0.5.0.
    native = importlib.import_module("pygrpc_native.aio")

    async def stream(request: bytes, context: Any) -> None:
        await paced(int(request), context.write)

    server = native.server()
    server.add_registered_method_handlers("bench.Bench", {"Stream": grpc.unary_stream_rpc_method_handler(stream)})
    server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    await server.wait_for_termination()


async def serve_native_low(port: int) -> None:
    """Serves by pygrpc-native's own API: a thread takes calls, and a write is one call into Rust."""
    native = importlib.import_module("pygrpc_native")
    front = native.NativeGrpcFront(f"127.0.0.1:{port}", [(METHOD, True)])
    front.start()
    loop = asyncio.get_running_loop()
    running: set[asyncio.Task[None]] = set()

    async def stream(call_id: int, messages: int) -> None:
        async def send(event: bytes) -> None:
            while front.stream_try_send(call_id, event) == native.STREAM_FULL:  # noqa: ASYNC110 - no event tells of room
                await asyncio.sleep(0.001)

        await paced(messages, send)
        front.stream_end(call_id)

    def begin(call_id: int, payload: bytes) -> None:
        task = loop.create_task(stream(call_id, int(payload)))
        running.add(task)
        task.add_done_callback(running.discard)

    def take_calls() -> None:
        while (events := front.recv_batch(64)) is not None:
            for kind, call_id, _, payload, _ in events:
                if kind == native.EVENT_CALL:
                    loop.call_soon_threadsafe(begin, call_id, payload)

    threading.Thread(target=take_calls, daemon=True).start()
    await asyncio.Event().wait()


async def serve_http(port: int) -> None:
    """Serves chunked HTTP/1.1 over uvloop's transports, as the floor of what asyncio can do."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ncontent-type: text/event-stream\r\n\r\n")

        async def send(event: bytes) -> None:
            writer.write(b"%x\r\n%b\r\n" % (len(event), event))

        await paced(int(head.split()[1][1:]), send)
        writer.write(b"0\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", port) as server:
        await server.serve_forever()


SERVERS = {
    "grpc.aio": serve_grpc_aio,
    "pygrpc-native aio": serve_native_aio,
    "pygrpc-native low-level": serve_native_low,
    "http/1.1 on uvloop": serve_http,
}


async def read_grpc(address: str, streams: int, messages: int) -> int:
    """Reads all streams over one connection, as Envoy has one; returns how many messages came."""
    async with grpc.aio.insecure_channel(address) as channel:

        async def read() -> int:
            call: AsyncIterator[bytes] = channel.unary_stream(METHOD)(b"%d" % messages, wait_for_ready=True)
            return len([message async for message in call])

        return sum(await asyncio.gather(*(read() for _ in range(streams))))


async def read_http(address: str, streams: int, messages: int) -> int:
    """Reads all streams, each over a connection of its own; returns how many events came."""

    async def read() -> int:
        host, _, port = address.partition(":")
        reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 24)
        writer.write(b"GET /%d HTTP/1.1\r\n\r\n" % messages)
        answer = await reader.readuntil(b"\r\n0\r\n\r\n")
        writer.close()
        return answer.count(b"data: ")

    return sum(await asyncio.gather(*(read() for _ in range(streams))))


def start(parts: ExitStack, name: str) -> tuple[str, psutil.Process]:
    """Starts a server's process; returns its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    process = subprocess.Popen([sys.executable, __file__, "--serve", name, "--port", str(port)])
    parts.callback(process.wait)
    parts.callback(process.terminate)
    deadline_s = time.monotonic() + _READY_S
    while time.monotonic() < deadline_s:
        if any(socket.status == psutil.CONN_LISTEN for socket in psutil.Process(process.pid).net_connections()):
            return f"127.0.0.1:{port}", psutil.Process(process.pid)
        time.sleep(0.05)
    raise TimeoutError(f"The server {name!r} did not listen within {_READY_S:g} s.")


async def measure(options: argparse.Namespace) -> dict[str, list[float]]:
    """By server: microseconds of its CPU for each message, of each round."""
    native = importlib.util.find_spec("pygrpc_native") is not None
    figures: dict[str, list[float]] = {name: [] for name in SERVERS if native or "native" not in name}
    with ExitStack() as parts:
        started = {name: start(parts, name) for name in figures}
        for _ in range(options.rounds):
            for name, (address, process) in started.items():
                read = read_http if name.startswith("http") else read_grpc
                await read(address, options.streams, 10)
                before_s = sum(process.cpu_times()[:2])
                came = await read(address, options.streams, options.messages)
                if came != options.streams * options.messages:
                    raise SystemExit(f"{name} sent {came} messages instead of {options.streams * options.messages}")
                figures[name].append((sum(process.cpu_times()[:2]) - before_s) / came * 1e6)
                print(f"{name:24s} {figures[name][-1]:6.1f} µs", file=sys.stderr)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--streams", type=int, default=16, help="how many streams at once")
    parser.add_argument("--messages", type=int, default=400, help="messages of each stream in a round")
    parser.add_argument("--rounds", type=int, default=5, help="how many rounds to measure")
    parser.add_argument("--serve", choices=tuple(SERVERS), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        uvloop.run(SERVERS[options.serve](options.port))
        return
    figures = uvloop.run(measure(options))
    medians = {name: round(statistics.median(each), 1) for name, each in figures.items()}
    print(json.dumps({"benchmark": "written_message", "streams": options.streams, "us_per_message": medians}))


if __name__ == "__main__":
    main()
