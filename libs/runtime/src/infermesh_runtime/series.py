"""Owns a metric whose series are found fast. Knows no registry."""

from typing import Generic, Protocol, TypeVar

ChildT_co = TypeVar("ChildT_co", covariant=True)


class Labelled(Protocol[ChildT_co]):
    """A metric of prometheus_client."""

    def labels(self, *values: str) -> ChildT_co:
        """The series with these values."""


class Series(Generic[ChildT_co]):
    """A metric's series by label values. prometheus_client takes a lock and checks all values each time.

    Series that are removed from the metric come back with their old values: for metrics whose series stay.
    """

    __slots__ = ("_children", "_metric")

    def __init__(self, metric: Labelled[ChildT_co]) -> None:
        self._metric = metric
        self._children: dict[tuple[str, ...], ChildT_co] = {}

    def labels(self, *values: str) -> ChildT_co:
        """The series with these values, made by the first call."""
        child = self._children.get(values)
        if child is None:
            child = self._children[values] = self._metric.labels(*values)
        return child
