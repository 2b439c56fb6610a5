"""Settings of how long and how often the router tries to serve a request, and when it spares an endpoint."""

import math

from pydantic import Field

from infermesh_router.fleet.breaker import BreakerOptions
from infermesh_router.relay.options import RelayOptions
from infermesh_router.relay.patience import Patience
from infermesh_runtime.settings import ServiceSettings


class RelaySettings(ServiceSettings):
    """Retries, hedges, failover, and circuit breakers."""

    connect_timeout_s: float = Field(
        5.0,
        gt=0,
        le=600,
        description="Longest wait for a connection to an endpoint, and for its first health report, in seconds.",
    )
    frames: bool = Field(
        True,
        description="Whether text streams come from an endpoint in frames: over one call that all share, with the "
        "tokens of all streams of an engine step in one message, which costs both less. Endpoints that do not offer "
        "it are sent a call for each stream.",
    )
    attempts: int = Field(
        3,
        ge=1,
        le=100,
        description="Most attempts for a request that fails before its first token, the first one included.",
    )
    retry_ratio: float = Field(
        0.2,
        ge=0,
        le=10,
        description="Extra attempts that each request adds to the shared budget of retries and hedges. The budget also "
        "grows by 10 per second and never exceeds 100.",
    )
    max_failovers: int = Field(
        5,
        ge=0,
        le=100,
        description="Most endpoints to try, over the life of a stream, when it fails after its first token. 0 turns "
        "failover off.",
    )
    failover_wait_s: float = Field(
        15.0, ge=0, le=600, description="Longest wait for an endpoint that can continue a failed stream, in seconds."
    )
    poison_s: float = Field(
        300.0,
        ge=0,
        le=86400,
        description="How long to refuse a request after two engines died or hung while it ran, in seconds. "
        "0: never refuse it.",
    )
    first_token_timeout_s: float = Field(
        20.0,
        gt=0,
        le=3600,
        description="Shortest wait for a first token before another endpoint is tried, in seconds. The router waits "
        "this long plus three times the endpoint's estimated seconds to drain.",
    )
    first_token_timeout_max_s: float = Field(
        600.0,
        gt=0,
        le=86400,
        description="Longest wait for a first token before another endpoint is tried, in seconds. The router waits "
        "this long while the endpoint's prefill rate is unknown.",
    )
    stall_timeout_s: float = Field(
        5.0,
        gt=0,
        le=3600,
        description="How long a running stream may be silent before another endpoint continues it, in seconds. The "
        "limit is longer for streams that are slow anyway (see INFERMESH_STALL_GAPS) and while the endpoint prefills "
        "prompts.",
    )
    stall_timeout_max_s: float = Field(
        120.0,
        gt=0,
        le=86400,
        description="Longest time that a running stream may be silent, in seconds. This is also the limit when no "
        "other endpoint could continue the stream, and while the endpoint's KV cache is almost full.",
    )
    stall_gaps: float = Field(
        50.0,
        ge=1,
        le=100_000,
        description="A running stream may be silent for this many of its usual gaps between tokens, or for "
        "INFERMESH_STALL_TIMEOUT_S if that is longer.",
    )
    wait_comment_s: float = Field(
        1.0,
        ge=0,
        le=3600,
        description="How long a request that streams over REST waits for its model to load before its answer begins, "
        "with a comment that says how far the load is, in seconds. One that waits in a queue is told so 5 s later. "
        "From then on, an error is an event in the stream instead of a status. 0: the answer begins with its first "
        "token.",
    )
    hedge_after_s: float = Field(
        0.0,
        ge=0,
        le=3600,
        description="How late a first token may be before the request is also sent to a second endpoint, in seconds. "
        "0: never.",
    )
    hedge_when_slow: bool = Field(
        False,
        description="Also send a request to a second endpoint when its first token is later than those of 95 % of "
        "the last 200 requests.",
    )
    breaker_failures: int = Field(
        5,
        ge=1,
        le=1_000_000,
        description="Failures in a row that open an endpoint's circuit breaker, so that it gets no requests for a "
        "while.",
    )
    breaker_failure_rate: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of failures, in (0, 1], above which an endpoint's circuit breaker opens: of its last 20 "
        "requests, if at least 10 of them ended in the last 60 s. 1: never.",
    )
    breaker_open_s: float = Field(
        1.0,
        gt=0,
        le=3600,
        description="How long an open circuit breaker refuses requests, in seconds. The time doubles each time the "
        "endpoint fails the request that then probes it.",
    )
    breaker_open_max_s: float = Field(
        30.0, gt=0, le=3600, description="Longest time that an open circuit breaker refuses requests, in seconds."
    )

    def relay_options(self) -> RelayOptions:
        """How often and how long a request is tried."""
        return RelayOptions(
            attempts=self.attempts,
            max_failovers=self.max_failovers,
            failover_wait_s=self.failover_wait_s,
            hedge_after_s=self.hedge_after_s or math.inf,
            hedge_when_slow=self.hedge_when_slow,
            retry_ratio=self.retry_ratio,
            poison_s=self.poison_s,
            patience=Patience(
                connect_s=self.connect_timeout_s,
                first_token_min_s=self.first_token_timeout_s,
                first_token_max_s=max(self.first_token_timeout_s, self.first_token_timeout_max_s),
                stall_min_s=self.stall_timeout_s,
                stall_max_s=max(self.stall_timeout_s, self.stall_timeout_max_s),
                stall_gaps=self.stall_gaps,
            ),
        )

    def breaker_options(self) -> BreakerOptions:
        """When an endpoint's circuit breaker opens, and for how long."""
        return BreakerOptions(
            consecutive_failures=self.breaker_failures,
            failure_rate=self.breaker_failure_rate,
            open_min_s=self.breaker_open_s,
            open_max_s=max(self.breaker_open_s, self.breaker_open_max_s),
        )
