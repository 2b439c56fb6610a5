"""Owns what can be set on a router. Knows nothing of how it is used."""

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
    """The settings of a router, from environment variables INFERMESH_*."""

    workers: Annotated[CommaList, AfterValidator(_check_workers)] = Field(
        (),
        description="Endpoints to dispatch to, comma list of host:port or dns:///name:port (every address of a name).",
    )
    workers_file: str = Field(
        "",
        description="File with more of them, one a line, # begins a comment; read again when it changes. Empty: none.",
    )
    mesh_config: str = Field(
        "",
        description="mesh.yaml: weights, rules by model, aliases, overflow; read again on SIGHUP. Empty: the defaults.",
    )
    resolve_interval_s: float = Field(
        5.0, gt=0, le=3600, description="Time between two resolutions of the dns:/// names, in seconds."
    )
    connect_timeout_s: float = Field(
        5.0,
        gt=0,
        le=600,
        description="Longest wait for a connection to an endpoint, and for its first health report, in seconds.",
    )
    reconnect_max_s: float = Field(
        1.0, gt=0, le=60, description="Longest pause between two tries to reach an endpoint, in seconds."
    )
    keepalive_s: float = Field(
        10.0, ge=6, le=3600, description="Silence on a connection after which it is probed, in seconds."
    )
    keepalive_timeout_s: float = Field(
        5.0, ge=0.1, le=600, description="Longest wait for a probe's answer; then the endpoint is lost, in seconds."
    )
    attempts: int = Field(
        3, ge=1, le=100, description="Endpoints to try for a request that fails before its first token."
    )
    retry_ratio: float = Field(
        0.2, ge=0, le=10, description="Retries and hedges for each request, beside 10 a second and 100 saved up."
    )
    max_failovers: int = Field(
        5, ge=0, le=100, description="Endpoints to try for a stream that fails in its middle, over its life; 0: none."
    )
    failover_wait_s: float = Field(
        15.0, ge=0, le=600, description="Longest wait for an endpoint that could go on with such a stream, in seconds."
    )
    first_token_timeout_s: float = Field(
        20.0,
        gt=0,
        le=3600,
        description="Least silence before a first token after which another endpoint is tried, in seconds; the time "
        "that the endpoint needs for its queue and the prompt, by its own figures, is added three times.",
    )
    first_token_timeout_max_s: float = Field(
        600.0, gt=0, le=86400, description="The same at most, and where an endpoint's rate is not known, in seconds."
    )
    stall_timeout_s: float = Field(
        5.0,
        gt=0,
        le=3600,
        description="Least silence in the middle of a stream after which another endpoint goes on, in seconds; "
        "stall_gaps times the measured gap between tokens where that is more.",
    )
    stall_timeout_max_s: float = Field(
        120.0, gt=0, le=86400, description="The same at most, and where no other endpoint could go on, in seconds."
    )
    stall_gaps: float = Field(
        50.0, ge=1, le=100_000, description="Gaps between tokens, as measured, that a stream may be silent for."
    )
    hedge_after_s: float = Field(
        0.0, ge=0, le=3600, description="Delay of the first token after which a second endpoint is asked; 0: never."
    )
    hedge_when_slow: bool = Field(
        False, description="Ask a second endpoint after the delay that 95 % of the last 200 requests did not exceed."
    )
    breaker_failures: int = Field(
        5, ge=1, le=1_000_000, description="Failures in a row after which an endpoint gets no requests for a while."
    )
    breaker_failure_rate: float = Field(
        0.5,
        gt=0,
        le=1,
        description="Share of failures among an endpoint's last requests, 10 or more, above which the same is done; "
        "1: never.",
    )
    breaker_open_s: float = Field(
        1.0, gt=0, le=3600, description="That while, in seconds; doubled each time the endpoint then fails again."
    )
    breaker_open_max_s: float = Field(30.0, gt=0, le=3600, description="That while at most, in seconds.")
    unknown_fields: Literal["reject", "ignore"] = Field(
        "reject",
        description="What to do with a field of a REST body that is not known: reject, or ignore and name it in the "
        "response header x-infermesh-ignored-fields.",
    )
    max_body_bytes: int = Field(
        64 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024, description="Largest body of a REST request, in bytes."
    )

    def targets(self) -> tuple[Target, ...]:
        """The workers, parsed."""
        return tuple(parse_target(worker) for worker in self.workers)

    def relay_options(self) -> RelayOptions:
        """How hard the dispatcher tries."""
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
        """When an endpoint gets no requests."""
        return BreakerOptions(
            consecutive_failures=self.breaker_failures,
            failure_rate=self.breaker_failure_rate,
            open_min_s=self.breaker_open_s,
            open_max_s=max(self.breaker_open_s, self.breaker_open_max_s),
        )
