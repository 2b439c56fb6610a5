"""Reports how often background tasks were restarted when Prometheus scrapes."""

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily
from prometheus_client.registry import Collector

from infermesh_runtime.background.tasks import TaskSupervisor


class TaskCollector(Collector):
    """Reads the supervisor at each scrape."""

    def __init__(self, tasks: TaskSupervisor) -> None:
        self._tasks = tasks

    def collect(self) -> Iterator[CounterMetricFamily]:
        """One sample for each kind of task that has run."""
        family = CounterMetricFamily(
            "infermesh:task_restarts", "Failures of background tasks, each followed by a restart.", labels=("task",)
        )
        for kind, restarts in sorted(self._tasks.restarts.items()):
            family.add_metric((kind,), restarts)
        yield family
