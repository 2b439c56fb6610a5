"""The metrics endpoint, over real HTTP."""

import asyncio
import gzip
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from infermesh_runtime import metrics
from infermesh_runtime.errors import Code, FailedPrecondition
from infermesh_runtime.metrics_server import MetricsServer
from infermesh_runtime.rpc.interceptor import CompletedRpc
from infermesh_runtime.rpc.server import Server


def scrape(port: int) -> dict[tuple[str, ...], float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        families = text_string_to_metric_families(response.read().decode())
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def rpc(method: str, code: Code, known: bool = True) -> CompletedRpc:
    return CompletedRpc(method=method, known=known, code=code, duration_s=0.02, peer="p", request_id="r")


@asynccontextmanager
async def serving(registry: CollectorRegistry, **options: Any) -> AsyncIterator[MetricsServer]:
    server = MetricsServer(registry, **options)
    await server.start("127.0.0.1:0")
    try:
        yield server
    finally:
        await server.close()


async def test_process_and_own_metrics_are_served_until_closed() -> None:
    registry = metrics.new_registry()
    Counter("vllm:things", "Things.", registry=registry).inc(3)
    async with serving(registry) as server:
        port = server.port
        samples = await asyncio.to_thread(scrape, port)
        assert samples["vllm:things_total",] == 3
        assert samples["process_resident_memory_bytes",] > 0
    with pytest.raises(urllib.error.URLError):
        await asyncio.to_thread(scrape, port)


async def test_a_taken_port_is_one_clear_error() -> None:
    async with serving(metrics.new_registry()) as server:
        with pytest.raises(FailedPrecondition, match=f"127.0.0.1:{server.port}"):
            await MetricsServer(metrics.new_registry()).start(f"127.0.0.1:{server.port}")


async def ask(port: int, request: bytes) -> tuple[bytes, bytes]:
    """The head and body of the answer to a raw request."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    head, _, body = (await asyncio.wait_for(reader.read(), 20)).partition(b"\r\n\r\n")
    writer.close()
    return head, body


async def test_what_the_client_accepts_is_heeded() -> None:
    registry = metrics.new_registry()
    Counter("vllm:things", "Things.", registry=registry)
    async with serving(registry) as server:
        head, body = await ask(server.port, b"GET /metrics HTTP/1.1\r\nHost: x\r\nAccept-Encoding: gzip\r\n\r\n")
        assert b"content-encoding: gzip" in head.lower()
        assert b"process_resident" in gzip.decompress(body)
        openmetrics = (
            b"GET /?name[]=vllm:things_total HTTP/1.1\r\nHost: x\r\nAccept: application/openmetrics-text\r\n\r\n"
        )
        head, body = await ask(server.port, openmetrics)
        assert b"application/openmetrics-text" in head
        assert body.startswith(b"# HELP vllm:things")
        assert body.endswith(b"# EOF\n")
        head, body = await ask(server.port, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 405")  # as prometheus_client answers
        assert not body
        assert (await ask(server.port, b"POST / HTTP/1.1\r\nHost: x\r\n\r\n"))[0].startswith(b"HTTP/1.1 405")
        assert await ask(server.port, b"nonsense\r\n\r\n") == (b"", b"")


async def test_half_open_connections_cost_no_threads_and_keep_nobody_out() -> None:
    async with serving(metrics.new_registry()) as server:
        await asyncio.to_thread(scrape, server.port)
        before = threading.active_count()
        silent = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(200)]
        for _, writer in silent[::2]:
            writer.write(b"GET /metrics HTTP/1.1\r\nHost")
        assert (await asyncio.to_thread(scrape, server.port))["process_resident_memory_bytes",] > 0
        assert threading.active_count() <= before + 1
        ended = await asyncio.gather(*(reader.read() for reader, _ in silent[:160]), return_exceptions=True)
        assert all(end == b"" or isinstance(end, ConnectionError) for end in ended)
        for _, writer in silent:
            writer.close()


async def test_a_silent_connection_is_cut_after_a_while() -> None:
    async with serving(metrics.new_registry(), answer_s=0.1) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        with suppress(ConnectionError):
            assert await asyncio.wait_for(reader.read(), 10) == b""
        writer.close()


def test_rpcs_are_counted_by_method_and_code() -> None:
    registry = metrics.new_registry()
    observe = metrics.RpcMetrics(registry)
    observe(rpc("/a.S/M", Code.OK))
    observe(rpc("/a.S/M", Code.OK))
    observe(rpc("/a.S/M", Code.UNAVAILABLE))
    assert value(registry, "grpc_server_handled_total", "a.S", "M", "OK") == 2
    assert value(registry, "grpc_server_handled_total", "a.S", "M", "UNAVAILABLE") == 1
    assert value(registry, "grpc_server_handling_seconds_sum", "a.S", "M", "OK") == pytest.approx(0.04)


def test_invented_methods_share_one_label() -> None:
    registry = metrics.new_registry()
    observe = metrics.RpcMetrics(registry)
    for index in range(20):
        observe(rpc(f"/x{index}/y", Code.UNIMPLEMENTED, known=False))
    assert value(registry, "grpc_server_handled_total", "", "unknown", "UNIMPLEMENTED") == 20


def value(registry: CollectorRegistry, name: str, service: str, method: str, code: str) -> float | None:
    sample: float | None = registry.get_sample_value(
        name, {"grpc_service": service, "grpc_method": method, "grpc_code": code}
    )
    return sample


async def test_the_part_serves_while_the_server_runs() -> None:
    port = free_port()
    server = Server(listen="127.0.0.1:0", drain_s=1)
    server.add_part(metrics.metrics_part(metrics.new_registry(), f"127.0.0.1:{port}"))
    server.add_part(metrics.metrics_part(metrics.new_registry(), ""))
    await server.start()
    assert await asyncio.to_thread(scrape, port)
    await server.stop()
    with pytest.raises(urllib.error.URLError):
        await asyncio.to_thread(scrape, port)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
