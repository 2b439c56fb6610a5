"""Keeps the last minutes of each endpoint's figures for `infermesh top`, and draws them as sparklines."""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from statistics import fmean

from infermesh.admin.v1 import admin_pb2

SAMPLE_S = 0.5
"""Time between two samples."""
SHOWN_S = 120.0
"""Time that a sparkline shows, however wide it is; a wider one shows it in more detail."""
_KEPT = int(SHOWN_S / SAMPLE_S)
_BARS = "▁▂▃▄▅▆▇█"


def _samples() -> "deque[float]":
    return deque(maxlen=_KEPT)


@dataclass(frozen=True, slots=True)
class Series:
    """The last figures of one endpoint, the newest one last."""

    tokens_per_s: "deque[float]" = field(default_factory=_samples)
    requests: "deque[float]" = field(default_factory=_samples)
    """Running and waiting ones."""
    kv_cache_usage: "deque[float]" = field(default_factory=_samples)


@dataclass(slots=True)
class History:
    """What the mesh reported last, and the figures before."""

    endpoints: Sequence[admin_pb2.Endpoint] = ()
    queues: Sequence[admin_pb2.ModelQueue] = ()
    problem: str = ""
    """Why there is no news; empty while the mesh answers."""
    _series: dict[str, Series] = field(default_factory=dict)
    _samples: int = 0

    def note(self, listing: admin_pb2.WatchEndpointsResponse) -> None:
        """Takes the newest listing."""
        self.endpoints, self.queues, self.problem = listing.endpoints, listing.queues, ""

    def sample(self) -> None:
        """Adds the present figures to each series, and forgets endpoints that have gone."""
        self._samples += 1
        gone = self._series.keys() - {endpoint.address for endpoint in self.endpoints}
        for address in gone:
            del self._series[address]
        for endpoint in self.endpoints:
            load, series = endpoint.report.load, self.series(endpoint.address)
            works = endpoint.connected and load.running
            series.tokens_per_s.append(load.decode_tokens_per_s if works else 0.0)
            series.requests.append(load.running + load.waiting if endpoint.connected else 0)
            series.kv_cache_usage.append(load.kv_cache_usage if endpoint.connected else 0.0)

    def series(self, address: str) -> Series:
        """The figures of an endpoint."""
        return self._series.setdefault(address, Series())

    def drawn(self, values: Sequence[float], width: int, *, most: float = 0.0) -> str:
        """A series as a sparkline of at most `width` bars, each the mean of the samples that it stands for.

        A bar that is whole stays as it is: the newest one alone changes.
        """
        each = samples_a_bar(width)
        newest = self._samples % each or each
        ends = range(len(values) - newest, 0, -each)
        parts = [*(values[max(0, end - each) : end] for end in reversed(ends)), values[-newest:]]
        return sparkline((fmean(part) for part in parts if part), width, most=most)


def samples_a_bar(width: int) -> int:
    """How many samples a bar stands for in a sparkline of `width` bars."""
    return max(1, ceil(_KEPT / width))


def sparkline(values: Iterable[float], width: int, *, most: float = 0.0) -> str:
    """The newest `width` values as bars, the newest one on the right; `most` is a full one, by default the largest."""
    shown = list(values)[-width:]
    top = most or max(shown, default=0.0)
    if top <= 0:
        return _BARS[0] * len(shown)
    return "".join(_BARS[min(len(_BARS) - 1, int(value / top * len(_BARS)))] for value in shown)


def totals(endpoints: Iterable[admin_pb2.Endpoint]) -> Mapping[str, float]:
    """Running and waiting requests and tokens/s of all endpoints together."""
    loads = [endpoint.report.load for endpoint in endpoints if endpoint.connected]
    return {
        "running": sum(load.running for load in loads),
        "waiting": sum(load.waiting for load in loads),
        "tokens_per_s": sum(load.decode_tokens_per_s for load in loads if load.running),
    }
