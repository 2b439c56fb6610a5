"""Owns what the router measures about its own work, under infermesh:router_* and vLLM's names where vLLM has them."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from infermesh.admin.v1 import admin_pb2
from infermesh_router.fleet.breaker import BreakerState
from infermesh_router.fleet.endpoint import Endpoint
from infermesh_router.fleet.endpoint_stats import StatsByAddress
from infermesh_runtime.series import Series

_OVERHEAD_BUCKETS_S = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1)
_FIRST_TOKEN_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_REQUEST_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_QUEUE_BUCKETS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class RouterMetrics:
    """Counters of dispatching, and the same by endpoint. Model names are those of reports: clients cannot add series.

    `chosen`, `sent` and `moved` count a request on its way; the attributes are for what belongs to no endpoint.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.by_endpoint = StatsByAddress()
        self.requests = Series(
            Counter(
                "infermesh:router_requests",
                "Requests that have ended, by model and status; the model is empty where no endpoint knows it.",
                ("model_name", "code"),
                registry=registry,
            )
        )
        self.failovers = Counter(
            "infermesh:router_failovers",
            "Running streams that were moved to another endpoint, by reason.",
            ("reason",),
            registry=registry,
        )
        self.shed = Counter(
            "infermesh:router_shed", "Requests refused for want of room, by reason.", ("reason",), registry=registry
        )
        self.loads = Counter(
            "infermesh:router_loads",
            "Models loaded because requests asked for them, by outcome.",
            ("outcome",),
            registry=registry,
        )
        self.hedges = Counter(
            "infermesh:router_hedges", "Requests sent to a second endpoint for being slow.", registry=registry
        )
        self.queue_s = Series(
            Histogram(
                "vllm:request_queue_time_seconds",
                "Time a request waited in the router's queue.",
                ("model_name",),
                buckets=_QUEUE_BUCKETS_S,
                registry=registry,
            )
        )
        self.choices = Series(
            Counter("infermesh:router_choices", "Endpoints chosen, by reason.", ("reason",), registry=registry)
        )
        self.retries = Counter(
            "infermesh:router_retries", "Calls that failed on an endpoint before a token.", registry=registry
        )
        self.overhead_s = Histogram(
            "infermesh:router_overhead_seconds",
            "Time from reading a request to sending it on.",
            buckets=_OVERHEAD_BUCKETS_S,
            registry=registry,
        )
        self.first_token_s = Series(
            Histogram(
                "vllm:time_to_first_token_seconds",
                "Time from sending a request on to its first token.",
                ("model_name",),
                buckets=_FIRST_TOKEN_BUCKETS_S,
                registry=registry,
            )
        )
        self.request_s = Series(
            Histogram(
                "vllm:e2e_request_latency_seconds",
                "Time from sending a request on to its end.",
                ("model_name",),
                buckets=_REQUEST_BUCKETS_S,
                registry=registry,
            )
        )

    def chosen(self, address: str, reason: str) -> None:
        """An endpoint was chosen for a request."""
        self.choices.labels(reason).inc()
        self.by_endpoint.of(address).choices[reason] += 1

    def sent(self, address: str, *, queued_s: float, overhead_s: float) -> None:
        """A request was sent to an endpoint; `overhead_s` is without the time in the queue."""
        self.overhead_s.observe(overhead_s)
        self.by_endpoint.of(address).note_sent(queued_s=queued_s, overhead_s=overhead_s)

    def moved(self, from_address: str, reason: str) -> None:
        """A running stream left an endpoint for another one."""
        self.failovers.labels(reason).inc()
        self.by_endpoint.of(from_address).failovers += 1


class QueueCollector(Collector):
    """How many requests wait at the moment of a scrape."""

    def __init__(self, queues: Callable[[], Iterable[admin_pb2.ModelQueue]]) -> None:
        self._queues = queues

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One value a model that something waits for."""
        family = GaugeMetricFamily(
            "infermesh:router_queue_length", "Requests that wait for an endpoint.", labels=("model_name",)
        )
        for queue in self._queues():
            family.add_metric((queue.model,), queue.waiting)
        yield family


class FleetCollector(Collector):
    """The endpoints' state at the moment of a scrape."""

    def __init__(self, endpoints: Callable[[], Iterable[Endpoint]]) -> None:
        self._endpoints = endpoints

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One value an endpoint."""
        endpoints = list(self._endpoints())
        yield _gauge(
            "infermesh:router_endpoint_ready",
            "Whether the endpoint takes requests.",
            endpoints,
            lambda e: e.connected and bool(e.snapshot.ready_models),
        )
        yield _gauge("infermesh:router_in_flight", "Requests in flight.", endpoints, lambda e: e.in_flight)
        yield _gauge(
            "infermesh:router_seconds_to_drain",
            "Estimated time to finish all it has.",
            endpoints,
            lambda e: e.snapshot.seconds_to_drain,
        )
        yield _breaker_states(endpoints)
        reporting = [e for e in endpoints if e.connected and e.last_report is not None]
        for name, text, value in _LOADS:
            yield _gauge(name, text, reporting, value)


def _load(name: str) -> Callable[[Endpoint], float]:
    return lambda e: getattr(e.last_report.load, name) if e.last_report else 0.0


_LOADS: tuple[tuple[str, str, Callable[[Endpoint], float]], ...] = (
    ("vllm:num_requests_running", "Sequences in the running batch.", _load("running")),
    ("vllm:num_requests_waiting", "Sequences waiting.", _load("waiting")),
    ("vllm:kv_cache_usage_perc", "Share of the KV cache in use, in [0, 1].", _load("kv_cache_usage")),
)


def _breaker_states(endpoints: Iterable[Endpoint]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "infermesh:router_breaker_state",
        "Whether the endpoint's circuit breaker is in the state: 1 for one of its three states.",
        labels=("endpoint", "state"),
    )
    for endpoint in endpoints:
        now = endpoint.breaker.state
        for state in BreakerState:
            family.add_metric((endpoint.address, state.value), float(state is now))
    return family


def _gauge(
    name: str, text: str, endpoints: Iterable[Endpoint], value: Callable[[Endpoint], float]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=("endpoint",))
    for endpoint in endpoints:
        family.add_metric((endpoint.address,), float(value(endpoint)))
    return family
