"""The router's settings: environment variables INFERMESH_*."""

import math
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from infermesh_router.fleet.breaker import BreakerOptions
from infermesh_router.membership.target import Target, parse_target
from infermesh_router.relay.options import RelayOptions
from infermesh_router.relay.patience import Patience
from infermesh_runtime.settings import CommaList, ServiceSettings


def _check_workers(workers: tuple[str, ...]) -> tuple[str, ...]:
    for worker in workers:
        parse_target(worker)
    return workers


class RouterSettings(ServiceSettings):
    """The settings of a router, read once at the start."""

    workers: Annotated[CommaList, AfterValidator(_check_workers)] = Field(
        (),
        description="Workers to send requests to: a comma-separated list of host:port or dns:///name:port. A dns:/// "
        "name stands for all its addresses.",
    )
    workers_file: str = Field(
        "",
        description="Path of a file that lists more workers, one a line in the same form; # begins a comment. The "
        "router follows its changes. Empty: no file.",
    )
    mesh_config: str = Field(
        "",
        description="Path of mesh.yaml: weights, model rules, aliases, overflow and queue limits. Read again on "
        "SIGHUP. Empty: the defaults.",
    )
    resolve_interval_s: float = Field(
        5.0, gt=0, le=3600, description="How often dns:/// names are resolved again, in seconds."
    )
    connect_timeout_s: float = Field(
        5.0,
        gt=0,
        le=600,
        description="Longest wait for a connection to an endpoint, and for its first health report, in seconds.",
    )
    reconnect_max_s: float = Field(
        1.0, gt=0, le=60, description="Longest pause between two attempts to reach a lost endpoint, in seconds."
    )
    keepalive_s: float = Field(
        10.0,
        ge=6,
        le=3600,
        description="How long a connection to an endpoint may be silent before it is probed, in seconds.",
    )
    keepalive_timeout_s: float = Field(
        5.0,
        ge=0.1,
        le=600,
        description="Longest wait for the answer to a probe, in seconds. Then the endpoint counts as lost.",
    )
    attempts: int = Field(
        3,
        ge=1,
        le=100,
        description="Most endpoints to try for a request that fails before its first token, the first one included.",
    )
    retry_ratio: float = Field(
        0.2,
        ge=0,
        le=10,
        description="Retries and hedges that each request adds to the shared budget, which also gains 10 a second "
        "and holds 100 at most.",
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
    first_token_timeout_s: float = Field(
        20.0,
        gt=0,
        le=3600,
        description="How long to wait for a first token before another endpoint is tried, in seconds. Three times "
        "the endpoint's estimated seconds to drain are added.",
    )
    first_token_timeout_max_s: float = Field(
        600.0,
        gt=0,
        le=86400,
        description="Upper limit of that wait for a first token, in seconds. It also applies while the endpoint's "
        "prefill rate is unknown.",
    )
    stall_timeout_s: float = Field(
        5.0,
        gt=0,
        le=3600,
        description="How long a running stream may be silent before another endpoint continues it, in seconds. It "
        "may be silent for longer if its gaps between tokens are long (INFERMESH_STALL_GAPS) or the "
        "endpoint prefills prompts.",
    )
    stall_timeout_max_s: float = Field(
        120.0,
        gt=0,
        le=86400,
        description="Upper limit of that silence of a running stream, in seconds. It also applies when no other "
        "endpoint could continue the stream, and while the endpoint's KV cache is almost full.",
    )
    stall_gaps: float = Field(
        50.0,
        ge=1,
        le=100_000,
        description="How long a running stream may be silent, as a multiple of its measured gap between tokens, if "
        "that is longer than INFERMESH_STALL_TIMEOUT_S.",
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
        "endpoint fails the probe that follows.",
    )
    breaker_open_max_s: float = Field(
        30.0, gt=0, le=3600, description="Longest time that an open circuit breaker refuses requests, in seconds."
    )
    unknown_fields: Literal["reject", "ignore"] = Field(
        "reject",
        description="What to do with an unknown field in a REST body: reject the request, or ignore the field and "
        "name it in the response header x-infermesh-ignored-fields.",
    )
    max_body_bytes: int = Field(
        64 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024, description="Largest REST request body to accept, in bytes."
    )

    max_messages: int = Field(
        10_000, ge=1, le=1_000_000, description="Most messages in one conversation, over REST and gRPC."
    )
    max_content_parts: int = Field(
        10_000, ge=1, le=1_000_000, description="Most parts of content in one REST body, over all its messages."
    )
    max_body_values: int = Field(
        4_000_000,
        ge=1000,
        le=100_000_000,
        description="Most values (strings, numbers, arrays, ...) in one REST body. Arrays and objects, and the fields "
        "of a gRPC request, are bounded to an eighth of it.",
    )
    body_memory_bytes: int = Field(
        0,
        ge=0,
        description="Memory for the requests in progress, in bytes. A request counts three times its size until it is "
        "read, then once, until it ends. Requests over 64 KiB that do not fit are refused with 429. 0: an eighth of "
        "the machine's memory, at least 256 MiB and at most 2 GiB.",
    )
    client_body_memory_share: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of that memory, in (0, 1], that the requests from one address may take.",
    )
    body_timeout_s: float = Field(
        60.0, gt=0, le=3600, description="How long a request may take to arrive completely, in seconds."
    )

    def targets(self) -> tuple[Target, ...]:
        """The workers that the settings list, parsed."""
        return tuple(parse_target(worker) for worker in self.workers)

    def relay_options(self) -> RelayOptions:
        """How often and how long a request is tried."""
        return RelayOptions(
            attempts=self.attempts,
            max_failovers=self.max_failovers,
            failover_wait_s=self.failover_wait_s,
            hedge_after_s=self.hedge_after_s or math.inf,
            hedge_when_slow=self.hedge_when_slow,
            retry_ratio=self.retry_ratio,
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
