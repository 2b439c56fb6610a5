"""Owns what a worker measures of its requests, under vLLM's metric names. Knows no HTTP and no gRPC.

The hot path adds to plain numbers; Prometheus' objects are made when somebody asks.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import accumulate
from operator import attrgetter

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from infermesh_engine.requests.output import EngineLoad, Finished, FinishReason

# vLLM's own bounds (vllm/v1/metrics/loggers.py), so that dashboards' quantiles compare.
_TTFT_S = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
    40,
    80,
    160,
    640,
    2560,
)
_ITL_S = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
_E2E_S = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)


class Histogram:
    """Counts of values by bucket."""

    __slots__ = ("_bounds", "_counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    @property
    def count(self) -> int:
        return sum(self._counts)

    def observe(self, value: float) -> None:
        self._counts[bisect_left(self._bounds, value)] += 1
        self.total += value

    def cumulative(self) -> list[tuple[str, float]]:
        """(upper bound, values up to it), the last bound "+Inf"."""
        names = [*(str(float(bound)) for bound in self._bounds), "+Inf"]
        return list(zip(names, map(float, accumulate(self._counts)), strict=True))


class Timing:
    """When the tokens of one request came, in seconds of the front's clock."""

    __slots__ = ("first_s", "last_s", "prompt_tokens", "steps", "submitted_s")

    def __init__(self, submitted_s: float, prompt_tokens: int) -> None:
        self.submitted_s = submitted_s
        self.prompt_tokens = prompt_tokens
        self.first_s = 0.0
        self.last_s = 0.0
        self.steps = 0
        """Engine steps that brought tokens, for one choice or more."""


class Meter:
    """What the requests of this process measured since its start."""

    def __init__(self) -> None:
        self.ttft_s = Histogram(_TTFT_S)
        self.itl_s = Histogram(_ITL_S)
        self.tpot_s = Histogram(_ITL_S)
        self.e2e_s = Histogram(_E2E_S)
        self.prompt_tokens = 0
        self.generation_tokens = 0
        self.preemptions = 0
        self.looked_up_tokens = 0
        self.cached_tokens = 0
        self.finished: Counter[str] = Counter({reason.value: 0 for reason in FinishReason})
        self._last_load = EngineLoad()

    def tokens_came(self, timing: Timing, count: int, now_s: float) -> None:
        """Counts a delta's tokens. Choices that get tokens in the same step count as one gap."""
        self.generation_tokens += count
        if not timing.steps:
            timing.first_s = now_s
            self.prompt_tokens += timing.prompt_tokens
            self.ttft_s.observe(now_s - timing.submitted_s)
        elif timing.last_s != now_s:
            self.itl_s.observe(now_s - timing.last_s)
        else:
            return
        timing.last_s = now_s
        timing.steps += 1

    def choice_finished(self, finished: Finished) -> None:
        self.finished[finished.finish_reason.value] += 1

    def request_cancelled(self) -> None:
        self.finished[FinishReason.CANCELLED.value] += 1

    def request_finished(self, timing: Timing, now_s: float) -> None:
        self.e2e_s.observe(now_s - timing.submitted_s)
        if timing.steps > 1:
            self.tpot_s.observe((timing.last_s - timing.first_s) / (timing.steps - 1))

    def engine_ended(self) -> None:
        """The next engine counts from 0 again; ours go on."""
        self._last_load = EngineLoad()

    def load_came(self, load: EngineLoad) -> None:
        self.preemptions += load.preemptions - self._last_load.preemptions
        self.looked_up_tokens += load.looked_up_tokens - self._last_load.looked_up_tokens
        self.cached_tokens += load.cached_tokens - self._last_load.cached_tokens
        self._last_load = load


class Meters:
    """A meter for each model that this process has served, also when it is not loaded any more."""

    def __init__(self) -> None:
        self._meters: dict[str, Meter] = {}

    def of(self, model: str) -> Meter:
        """The model's meter, the same each time."""
        return self._meters.setdefault(model, Meter())

    def items(self) -> list[tuple[str, Meter]]:
        return list(self._meters.items())


class WorkerCollector(Collector):
    """Gives Prometheus the meters' numbers and the engines' load, labelled with the models' names."""

    def __init__(self, meters: Meters, loads: Callable[[], Mapping[str, EngineLoad]]) -> None:
        """`loads`: of the models that are loaded now."""
        self._meters = meters
        self._loads = loads

    def collect(self) -> Iterable[Metric]:
        loads, meters = self._loads(), self._meters.items()
        yield from self._gauges([(name, loads.get(name, EngineLoad())) for name, _ in meters])
        yield from self._counters(meters)
        yield self._successes(meters)
        yield from self._histograms(meters)

    def _gauges(self, loads: Sequence[tuple[str, EngineLoad]]) -> Iterable[Metric]:
        for name, help_text, value in (
            ("vllm:num_requests_running", "Sequences in the running batch.", attrgetter("running")),
            ("vllm:num_requests_waiting", "Sequences waiting for it.", attrgetter("waiting")),
            ("vllm:kv_cache_usage_perc", "Share of the KV blocks in use; 1 means all.", attrgetter("kv_cache_usage")),
        ):
            family = GaugeMetricFamily(name, help_text, labels=["model_name"])
            for model, load in loads:
                family.add_metric([model], value(load))
            yield family

    def _counters(self, meters: Sequence[tuple[str, Meter]]) -> Iterable[Metric]:
        for name, help_text, value in (
            ("vllm:prompt_tokens", "Prompt tokens of requests that got a token.", attrgetter("prompt_tokens")),
            ("vllm:generation_tokens", "Tokens generated.", attrgetter("generation_tokens")),
            ("vllm:num_preemptions", "Sequences that lost their blocks.", attrgetter("preemptions")),
            (
                "vllm:prefix_cache_queries",
                "Prompt tokens looked up in the prefix cache.",
                attrgetter("looked_up_tokens"),
            ),
            ("vllm:prefix_cache_hits", "Prompt tokens found in it.", attrgetter("cached_tokens")),
        ):
            family = CounterMetricFamily(name, help_text, labels=["model_name"])
            for model, meter in meters:
                family.add_metric([model], value(meter))
            yield family

    def _successes(self, meters: Sequence[tuple[str, Meter]]) -> Metric:
        labels = ["model_name", "finished_reason"]
        family = CounterMetricFamily("vllm:request_success", "Choices that ended, by reason.", labels=labels)
        for model, meter in meters:
            for reason, count in meter.finished.items():
                family.add_metric([model, "abort" if reason == "cancelled" else reason], count)
        return family

    def _histograms(self, meters: Sequence[tuple[str, Meter]]) -> Iterable[Metric]:
        for name, help_text, histogram in (
            ("vllm:time_to_first_token_seconds", "From the request to its first token.", attrgetter("ttft_s")),
            ("vllm:inter_token_latency_seconds", "Between a request's tokens.", attrgetter("itl_s")),
            ("vllm:request_time_per_output_token_seconds", "Mean of that for each request.", attrgetter("tpot_s")),
            ("vllm:e2e_request_latency_seconds", "From the request to its last token.", attrgetter("e2e_s")),
        ):
            family = HistogramMetricFamily(name, help_text, labels=["model_name"])
            for model, meter in meters:
                family.add_metric([model], histogram(meter).cumulative(), histogram(meter).total)
            yield family
