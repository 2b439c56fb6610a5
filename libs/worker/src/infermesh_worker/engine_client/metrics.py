"""Exports a worker's measurements to Prometheus, under vLLM's metric names."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import attrgetter

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from infermesh_engine.requests.output import EngineLoad
from infermesh_worker.engine_client.request_meter import RequestMeter, RequestMeters


class WorkerCollector(Collector):
    """Turns meters and engine loads into Prometheus metrics when they are scraped, labelled by model."""

    def __init__(self, meters: RequestMeters, loads: Callable[[], Mapping[str, EngineLoad]]) -> None:
        """`loads` returns the load of every hosted model."""
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
            ("vllm:num_requests_waiting", "Sequences waiting to be run.", attrgetter("waiting")),
            (
                "vllm:kv_cache_usage_perc",
                "Share of KV cache blocks that sequences hold, in [0, 1]; not those that only the prefix cache keeps.",
                attrgetter("kv_cache_usage"),
            ),
        ):
            family = GaugeMetricFamily(name, help_text, labels=["model_name"])
            for model, load in loads:
                family.add_metric([model], value(load))
            yield family

    def _counters(self, meters: Sequence[tuple[str, RequestMeter]]) -> Iterable[Metric]:
        for name, help_text, value in (
            (
                "vllm:prompt_tokens",
                "Prompt tokens of requests that got a token.",
                attrgetter("prompt_tokens"),
            ),
            ("vllm:generation_tokens", "Generated tokens.", attrgetter("generation_tokens")),
            (
                "vllm:num_preemptions",
                "Preemptions: a sequence lost its KV blocks.",
                attrgetter("preemptions"),
            ),
            (
                "vllm:prefix_cache_queries",
                "Prompt tokens looked up in the prefix cache.",
                attrgetter("looked_up_tokens"),
            ),
            (
                "vllm:spec_decode_num_draft_tokens",
                "Tokens that were guessed ahead and checked.",
                attrgetter("drafted_tokens"),
            ),
            (
                "vllm:spec_decode_num_accepted_tokens",
                "Guessed tokens that were right.",
                attrgetter("accepted_tokens"),
            ),
            ("vllm:prefix_cache_hits", "Prompt tokens found in the prefix cache.", attrgetter("cached_tokens")),
        ):
            family = CounterMetricFamily(name, help_text, labels=["model_name"])
            for model, meter in meters:
                family.add_metric([model], value(meter))
            yield family

    def _successes(self, meters: Sequence[tuple[str, RequestMeter]]) -> Metric:
        labels = ["model_name", "finished_reason"]
        family = CounterMetricFamily(
            "vllm:request_success",
            "Choices that ended, by finish reason; abort counts those whose client left. Failed ones are left out.",
            labels=labels,
        )
        for model, meter in meters:
            for reason, count in meter.finished.items():
                family.add_metric([model, "abort" if reason == "cancelled" else reason], count)
        return family

    def _histograms(self, meters: Sequence[tuple[str, RequestMeter]]) -> Iterable[Metric]:
        for name, help_text, histogram in (
            (
                "vllm:time_to_first_token_seconds",
                "Seconds from handing a request to its engine process to its first token.",
                attrgetter("ttft_s"),
            ),
            (
                "vllm:inter_token_latency_seconds",
                "Seconds between two steps that brought a request tokens.",
                attrgetter("itl_s"),
            ),
            (
                "vllm:request_time_per_output_token_seconds",
                "Mean of those seconds over a request that ran to its end.",
                attrgetter("tpot_s"),
            ),
            (
                "vllm:e2e_request_latency_seconds",
                "Seconds from handing a request to its engine process to its end; for requests that ran to their end.",
                attrgetter("e2e_s"),
            ),
        ):
            family = HistogramMetricFamily(name, help_text, labels=["model_name"])
            for model, meter in meters:
                family.add_metric([model], histogram(meter).cumulative(), histogram(meter).total)
            yield family
