"""Measures the process and its RPCs, and serves the metrics over HTTP for Prometheus."""

import asyncio
import logging
from contextlib import ExitStack
from dataclasses import dataclass
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, Counter, Histogram, start_http_server
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.rpc.interceptor import CompletedRpc
from infermesh_runtime.rpc.server import ServerPart
from infermesh_runtime.series import Series
from infermesh_runtime.settings import split_host_port

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


@dataclass(frozen=True, slots=True)
class MetricsServer:
    """A running metrics endpoint."""

    port: int
    _server: WSGIServer
    _thread: Thread

    def close(self) -> None:
        """Stops it and frees its port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def serve_metrics(registry: CollectorRegistry, listen: str) -> MetricsServer:
    """Serves `registry` over HTTP at `listen` (host:port) from a thread, until closed.

    Raises FailedPrecondition when the address cannot be bound.
    """
    host, port = split_host_port(listen)
    try:
        server, thread = start_http_server(port, addr=host, registry=registry)
    except OSError as error:
        raise FailedPrecondition(
            f"cannot serve metrics on {listen}: {error.strerror or error}. Free the port, or change"
            " INFERMESH_METRICS_LISTEN."
        ) from error
    return MetricsServer(server.server_port, server, thread)


def metrics_part(registry: CollectorRegistry, listen: str) -> ServerPart:
    """A server part that serves `registry` at `listen` (host:port); does nothing if that is empty."""
    serving = ExitStack()

    async def start() -> None:
        if listen:
            server = serve_metrics(registry, listen)
            serving.callback(server.close)
            _log.info("serving metrics", extra={"port": server.port})

    async def close() -> None:
        await asyncio.to_thread(serving.close)

    return ServerPart(name="metrics", start=start, close=close)
