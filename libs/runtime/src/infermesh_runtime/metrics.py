"""Measures the process and its RPCs, and serves the metrics as a part of a server."""

import logging

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from infermesh_runtime.metrics_server import MetricsServer
from infermesh_runtime.rpc.interceptor import CompletedRpc
from infermesh_runtime.rpc.server import ServerPart
from infermesh_runtime.series import Series

DURATION_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

_log = logging.getLogger(__name__)


def new_registry() -> CollectorRegistry:
    """A registry with this process's metrics: CPU, memory, file descriptors, Python and its garbage collector."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class RpcMetrics:
    """Counts RPCs and measures their durations, under go-grpc-prometheus' names, so that existing dashboards work.

    An observer for `rpc.interceptor.RpcInterceptor`.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        labels = ("grpc_service", "grpc_method", "grpc_code")
        self._handled = Series(
            Counter("grpc_server_handled", "RPCs completed, by status code.", labels, registry=registry)
        )
        self._duration_s = Series(
            Histogram(
                "grpc_server_handling_seconds",
                "Time from an RPC's arrival to its last message.",
                labels,
                buckets=DURATION_BUCKETS_S,
                registry=registry,
            )
        )

    def __call__(self, rpc: CompletedRpc) -> None:
        # Clients can invent method names without end, and a series for each would fill our memory: count them as one.
        service, _, method = rpc.method.removeprefix("/").rpartition("/") if rpc.known else ("", "", "unknown")
        labels = (service, method, rpc.code.name)
        self._handled.labels(*labels).inc()
        self._duration_s.labels(*labels).observe(rpc.duration_s)


def metrics_part(registry: CollectorRegistry, listen: str) -> ServerPart:
    """A server part that serves `registry` at `listen` (host:port); does nothing if that is empty."""
    serving = MetricsServer(registry)

    async def start() -> None:
        if listen:
            await serving.start(listen)
            _log.info("serving metrics", extra={"port": serving.port})

    return ServerPart(name="metrics", start=start, close=serving.close)
