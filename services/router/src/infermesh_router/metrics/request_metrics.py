"""Counts and times the requests that the router dispatches.

All names begin with infermesh:router_. Names of vLLM's are the workers' alone, so that a sum over every process counts
each request once.
"""

from prometheus_client import CollectorRegistry, Counter, Histogram

from infermesh_router.fleet.endpoint_stats import StatsByAddress
from infermesh_runtime.series import Series

_OVERHEAD_BUCKETS_S = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.05, 0.1)
_FIRST_TOKEN_BUCKETS_S = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_REQUEST_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)
_QUEUE_BUCKETS_S = (0.001, 0.005, 0.01, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300)


class RequestMetrics:
    """The metrics of all requests, and some of them by endpoint.

    `chosen`, `sent` and `moved` follow a request on its way; callers use the attributes for all else. Model names must
    be those that endpoints report, or clients could add time series.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self.by_endpoint = StatsByAddress()
        self._register_outcomes(registry)
        self._register_attempts(registry)
        self._register_times(registry)

    def _register_outcomes(self, registry: CollectorRegistry) -> None:
        """What became of requests."""
        self.requests = Series(
            Counter(
                "infermesh:router_requests",
                "Requests that have ended, by model and gRPC status. The model is empty if no endpoint knows it.",
                ("model_name", "code"),
                registry=registry,
            )
        )
        self.shed = Counter(
            "infermesh:router_shed",
            "Requests refused because the queue was full, their deadline too short, or their deadline passed while "
            "they waited, by reason.",
            ("reason",),
            registry=registry,
        )
        self.poisoned = Counter(
            "infermesh:router_poisoned",
            "Requests refused because two engines died or hung while they ran.",
            registry=registry,
        )

    def _register_attempts(self, registry: CollectorRegistry) -> None:
        """What the router did to serve them."""
        self.choices = Series(
            Counter(
                "infermesh:router_choices",
                "Endpoints chosen, for retries, hedges and failovers too, by reason.",
                ("reason",),
                registry=registry,
            )
        )
        self.retries = Counter(
            "infermesh:router_retries",
            "Times that a request was to be tried again because an endpoint failed before its first token.",
            registry=registry,
        )
        self.hedges = Counter(
            "infermesh:router_hedges",
            "Requests for which the router asked for a second endpoint because the first token was late.",
            registry=registry,
        )
        self.failovers = Counter(
            "infermesh:router_failovers",
            "Running streams that another endpoint continued, by the reason for leaving the first.",
            ("reason",),
            registry=registry,
        )
        self.loads = Counter(
            "infermesh:router_loads",
            "Loads of models that no endpoint had ready, for requests or operators, by outcome (loaded or failed). "
            "Requests that wait for the same load count once.",
            ("outcome",),
            registry=registry,
        )

    def _register_times(self, registry: CollectorRegistry) -> None:
        """How long it all took."""
        self.queue_s = Series(
            Histogram(
                "infermesh:router_queue_time_seconds",
                "Time a request waited in the router for an endpoint, loading its model included; 0 if it did not "
                "wait. Observed again for each retry, hedge and failover.",
                ("model_name",),
                buckets=_QUEUE_BUCKETS_S,
                registry=registry,
            )
        )
        self.overhead_s = Histogram(
            "infermesh:router_overhead_seconds",
            "Time from a request's arrival to sending it to an endpoint, without its last wait in the queue. Observed "
            "for each endpoint tried before the first token; a retry or hedge includes the time of earlier attempts.",
            buckets=_OVERHEAD_BUCKETS_S,
            registry=registry,
        )
        self.first_token_s = Series(
            Histogram(
                "infermesh:router_time_to_first_token_seconds",
                "Time from a Generate request's arrival at the router to its first token, queueing included.",
                ("model_name",),
                buckets=_FIRST_TOKEN_BUCKETS_S,
                registry=registry,
            )
        )
        self.request_s = Series(
            Histogram(
                "infermesh:router_e2e_request_latency_seconds",
                "Time from a Generate request's arrival at the router to the end of its stream. Failed and cancelled "
                "requests are left out.",
                ("model_name",),
                buckets=_REQUEST_BUCKETS_S,
                registry=registry,
            )
        )

    def chosen(self, address: str, reason: str) -> None:
        """Counts that an endpoint was chosen for a request."""
        self.choices.labels(reason).inc()
        self.by_endpoint.of(address).choices[reason] += 1

    def sent(self, address: str, *, queued_s: float, overhead_s: float) -> None:
        """Notes that a request was sent to an endpoint. `overhead_s` excludes `queued_s`, its time in the queue."""
        self.overhead_s.observe(overhead_s)
        self.by_endpoint.of(address).note_sent(queued_s=queued_s, overhead_s=overhead_s)

    def moved(self, from_address: str, reason: str) -> None:
        """Counts that a running stream left an endpoint for another one."""
        self.failovers.labels(reason).inc()
        self.by_endpoint.of(from_address).failovers += 1
