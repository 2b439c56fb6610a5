"""Caches the series of a Prometheus metric by their label values."""

from typing import Generic, Protocol, TypeVar

ChildT_co = TypeVar("ChildT_co", covariant=True)


class Labelled(Protocol[ChildT_co]):
    """A metric of prometheus_client."""

    def labels(self, *values: str) -> ChildT_co:
        """The series with these values."""


class Series(Generic[ChildT_co]):
    """A metric's series by label values. Without it, prometheus_client takes a lock and checks the values on each use.

    Only for metrics whose series are never removed: a removed one would come back with its old value.
    """

    __slots__ = ("_children", "_metric")

    def __init__(self, metric: Labelled[ChildT_co]) -> None:
        self._metric = metric
        self._children: dict[tuple[str, ...], ChildT_co] = {}

    def labels(self, *values: str) -> ChildT_co:
        """The series with these values; the first call makes it."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._metric.labels(*values)
        return child
