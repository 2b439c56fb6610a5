"""Reports how many requests wait in the router's queues when Prometheus scrapes."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from infermesh.admin.v1 import admin_pb2


class QueueCollector(Collector):
    """Reads the queues at each scrape."""

    def __init__(self, queues: Callable[[], Iterable[admin_pb2.ModelQueue]]) -> None:
        self._queues = queues

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """One sample for each model with waiting requests."""
        family = GaugeMetricFamily(
            "infermesh:router_queue_length",
            "Requests that wait for room on an endpoint, by model; not those that wait for their model to load.",
            labels=("model_name",),
        )
        for queue in self._queues():
            family.add_metric((queue.model,), queue.waiting)
        yield family
