"""Reports the state and load of each endpoint when Prometheus scrapes."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from infermesh_router.fleet.breaker import BreakerState
from infermesh_router.fleet.endpoint import Endpoint
from infermesh_router.fleet.frames.frame_link import FrameLink


class EndpointCollector(Collector):
    """Reads the endpoints at each scrape."""

    def __init__(self, endpoints: Callable[[], Iterable[Endpoint]]) -> None:
        self._endpoints = endpoints

    def collect(self) -> Iterator[GaugeMetricFamily | CounterMetricFamily]:
        """One sample for each endpoint; its load only while it is connected."""
        endpoints = list(self._endpoints())
        for name, text, value in _STATES:
            yield _gauge(name, text, endpoints, value)
        yield _breaker_states(endpoints)
        for name, text, count in _FRAME_COUNTS:
            yield _counter(name, text, endpoints, count)
        reporting = [e for e in endpoints if e.connected and e.last_report is not None]
        for name, text, value in _LOADS:
            yield _gauge(name, text, reporting, value)


def _load(name: str) -> Callable[[Endpoint], float]:
    return lambda e: getattr(e.last_report.load, name) if e.last_report else 0.0


Gauge = tuple[str, str, Callable[[Endpoint], float]]
"""Name, help and value."""

_STATES: tuple[Gauge, ...] = (
    (
        "infermesh:router_endpoint_ready",
        "1 if the endpoint is connected and has a model ready, else 0. The circuit breaker is left out.",
        lambda e: e.connected and bool(e.snapshot.ready_models),
    ),
    ("infermesh:router_in_flight", "Requests of this router that run on the endpoint.", lambda e: e.in_flight),
    (
        "infermesh:router_seconds_to_drain",
        "Estimated time until the endpoint has finished all its work, in seconds.",
        lambda e: e.snapshot.seconds_to_drain,
    ),
)
_LOADS: tuple[Gauge, ...] = (
    ("infermesh:router_endpoint_running", "Sequences that the endpoint runs, by its last report.", _load("running")),
    (
        "infermesh:router_endpoint_waiting",
        "Sequences in the endpoint's own queue, by its last report.",
        _load("waiting"),
    ),
    (
        "infermesh:router_endpoint_kv_cache_usage",
        "Share of the endpoint's KV cache held by running sequences, in [0, 1], by its last report.",
        _load("kv_cache_usage"),
    ),
)

_FRAME_COUNTS: tuple[tuple[str, str, Callable[[FrameLink], int]], ...] = (
    ("infermesh:router_frames", "Frames that came from the endpoint.", lambda link: link.frames),
    (
        "infermesh:router_frame_events",
        "Events that came from the endpoint in frames, of which each carries those of all its streams.",
        lambda link: link.events,
    ),
)


def _breaker_states(endpoints: Iterable[Endpoint]) -> GaugeMetricFamily:
    family = GaugeMetricFamily(
        "infermesh:router_breaker_state",
        "1 for the state that the endpoint's circuit breaker is in (closed, open or half_open), 0 for the others.",
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


def _counter(
    name: str, text: str, endpoints: Iterable[Endpoint], count: Callable[[FrameLink], int]
) -> CounterMetricFamily:
    family = CounterMetricFamily(name, text, labels=("endpoint",))
    for endpoint in endpoints:
        family.add_metric((endpoint.address,), float(count(endpoint.frames) if endpoint.frames else 0))
    return family
