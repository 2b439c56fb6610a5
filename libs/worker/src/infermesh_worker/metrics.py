"""Owns what a worker measures of its requests, under vLLM's metric names. Knows no HTTP and no gRPC.

The hot path adds to plain numbers; Prometheus' objects are made when somebody asks.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from infermesh_engine.output import Finished, FinishReason, Load

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
        self._last_load = Load()

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
        self._last_load = Load()

    def load_came(self, load: Load) -> None:
        self.preemptions += load.preemptions - self._last_load.preemptions
        self.looked_up_tokens += load.looked_up_tokens - self._last_load.looked_up_tokens
        self.cached_tokens += load.cached_tokens - self._last_load.cached_tokens
        self._last_load = load


class WorkerCollector(Collector):
    """Gives Prometheus the meter's numbers and the engine's load, labelled with the model's name."""

    def __init__(self, meter: Meter, load: Callable[[], Load], model_name: str) -> None:
        self._meter = meter
        self._load = load
        self._model_name = model_name

    def collect(self) -> Iterable[Metric]:
        yield from self._gauges(self._load())
        yield from self._counters()
        yield from self._histograms()

    def _gauges(self, load: Load) -> Iterable[Metric]:
        for name, help_text, value in (
            ("vllm:num_requests_running", "Sequences in the running batch.", load.running),
            ("vllm:num_requests_waiting", "Sequences waiting for it.", load.waiting),
            ("vllm:kv_cache_usage_perc", "Share of the KV blocks in use; 1 means all.", load.kv_cache_usage),
        ):
            family = GaugeMetricFamily(name, help_text, labels=["model_name"])
            family.add_metric([self._model_name], value)
            yield family

    def _counters(self) -> Iterable[Metric]:
        meter = self._meter
        for name, help_text, value in (
            ("vllm:prompt_tokens", "Prompt tokens of requests that got a token.", meter.prompt_tokens),
            ("vllm:generation_tokens", "Tokens generated.", meter.generation_tokens),
            ("vllm:num_preemptions", "Sequences that lost their blocks.", meter.preemptions),
            ("vllm:prefix_cache_queries", "Prompt tokens looked up in the prefix cache.", meter.looked_up_tokens),
            ("vllm:prefix_cache_hits", "Prompt tokens found in it.", meter.cached_tokens),
        ):
            family = CounterMetricFamily(name, help_text, labels=["model_name"])
            family.add_metric([self._model_name], value)
            yield family
        success = CounterMetricFamily(
            "vllm:request_success", "Choices that ended, by reason.", labels=["model_name", "finished_reason"]
        )
        for reason, count in meter.finished.items():
            success.add_metric([self._model_name, "abort" if reason == "cancelled" else reason], count)
        yield success

    def _histograms(self) -> Iterable[Metric]:
        meter = self._meter
        for name, help_text, histogram in (
            ("vllm:time_to_first_token_seconds", "From the request to its first token.", meter.ttft_s),
            ("vllm:inter_token_latency_seconds", "Between a request's tokens.", meter.itl_s),
            ("vllm:request_time_per_output_token_seconds", "Mean of that for each request.", meter.tpot_s),
            ("vllm:e2e_request_latency_seconds", "From the request to its last token.", meter.e2e_s),
        ):
            family = HistogramMetricFamily(name, help_text, labels=["model_name"])
            family.add_metric([self._model_name], histogram.cumulative(), histogram.total)
            yield family
