"""The metrics endpoint, over real HTTP."""

import asyncio
import socket
import urllib.error
import urllib.request

import pytest
from prometheus_client import CollectorRegistry, Counter
from prometheus_client.parser import text_string_to_metric_families

from infermesh_runtime import metrics
from infermesh_runtime.errors import Code, FailedPrecondition
from infermesh_runtime.rpc.interceptor import CompletedRpc
from infermesh_runtime.rpc.server import Server


def scrape(port: int) -> dict[tuple[str, ...], float]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as response:
        families = text_string_to_metric_families(response.read().decode())
    return {(s.name, *s.labels.values()): s.value for family in families for s in family.samples}


def rpc(method: str, code: Code, known: bool = True) -> CompletedRpc:
    return CompletedRpc(method=method, known=known, code=code, duration_s=0.02, peer="p", request_id="r")


def test_process_and_own_metrics_are_served_until_closed() -> None:
    registry = metrics.new_registry()
    Counter("vllm:things", "Things.", registry=registry).inc(3)
    server = metrics.serve_metrics(registry, "127.0.0.1:0")
    try:
        samples = scrape(server.port)
        assert samples["vllm:things_total",] == 3
        assert samples["process_resident_memory_bytes",] > 0
    finally:
        server.close()
    with pytest.raises(urllib.error.URLError):
        scrape(server.port)


def test_a_taken_port_is_one_clear_error() -> None:
    server = metrics.serve_metrics(metrics.new_registry(), "127.0.0.1:0")
    try:
        with pytest.raises(FailedPrecondition, match=f"127.0.0.1:{server.port}"):
            metrics.serve_metrics(metrics.new_registry(), f"127.0.0.1:{server.port}")
    finally:
        server.close()


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
