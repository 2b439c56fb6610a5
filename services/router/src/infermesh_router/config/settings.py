"""The router's settings: environment variables INFERMESH_*."""

import math
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, ByteSize, Field, model_validator

from infermesh_router.fleet.breaker import BreakerOptions
from infermesh_router.membership.target import Target, parse_target
from infermesh_router.relay.options import RelayOptions
from infermesh_router.relay.patience import Patience
from infermesh_runtime.addresses import UNIX, check_exposure, check_listen
from infermesh_runtime.api_keys import KEYS_FILE
from infermesh_runtime.settings import CommaList, ServiceSettings


def _check_workers(workers: tuple[str, ...]) -> tuple[str, ...]:
    for worker in workers:
        parse_target(worker)
    return workers


def _check_admin_listen(value: str) -> str:
    return check_listen(value) if value else value


def _check_networks(networks: tuple[str, ...]) -> tuple[str, ...]:
    for network in networks:
        ip_network(network)
    return networks


class RouterSettings(ServiceSettings):
    """The settings of a router, read once at the start."""

    admin_listen: Annotated[str, AfterValidator(_check_admin_listen)] = Field(
        "",
        description="Where to serve operators and workers that register: unix:PATH, or host:port, which needs the "
        "mesh token or mutual TLS. Clients cannot do there what is not offered at INFERMESH_LISTEN. Empty: nowhere.",
    )
    registration_networks: Annotated[CommaList, AfterValidator(_check_networks)] = Field(
        (),
        description="Networks in which workers may register, as in 10.0.0.0/8, separated by commas. Empty: any.",
    )
    workers: Annotated[CommaList, AfterValidator(_check_workers)] = Field(
        (),
        description="Workers to send requests to: a comma-separated list of host:port or dns:///name:port. A dns:/// "
        "name stands for all its addresses.",
    )
    workers_file: str = Field(
        "",
        description="Path of a file that lists more workers, one per line, written as in INFERMESH_WORKERS; # begins a "
        "comment. The router rereads the file when it changes. Empty: no file.",
    )
    mesh_config: str = Field(
        "",
        description="Path of mesh.yaml: weights, model rules, aliases, overflow and queue limits. Read again on "
        "SIGHUP. Empty: the defaults.",
    )
    home: str = Field(
        "",
        description="Folder of the mesh on this machine. If it has a file keys.json, requests need one of its API "
        "keys. The router follows its changes. Empty: no such file.",
    )
    keys_file: str = Field(
        "",
        description="Path of the file of API keys, in place of keys.json in INFERMESH_HOME. It must be there at the "
        "start.",
    )
    router_count: int = Field(
        1,
        ge=1,
        le=1000,
        description="Number of routers side by side that share the rate limits of API keys. Each enforces an equal "
        "share of every limit.",
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
        description="How long to refuse a request after the engines of two endpoints died while it ran, in seconds. "
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
    unknown_fields: Literal["reject", "ignore"] = Field(
        "reject",
        description="What to do with an unknown field in a REST body: reject the request, or ignore the field and "
        "name it in the response header x-infermesh-ignored-fields.",
    )
    max_body_bytes: int = Field(
        64 * 1024 * 1024, ge=1024, le=64 * 1024 * 1024, description="Largest REST request body to accept, in bytes."
    )

    max_calls: int = Field(
        4096,
        ge=1,
        le=1_000_000,
        description="Most requests in progress, running and waiting together. Further ones are refused with 429 before "
        "they are read.",
    )
    queue_bytes: ByteSize | None = Field(
        None,
        ge=1,
        description="Most memory that waiting requests may hold, e.g. 2GiB; four times the size of each request's body "
        "is counted. Further requests are refused with 429. Default: a quarter of the memory that the router may use.",
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

    def keys_path(self) -> Path | None:
        """Where API keys are looked for; None: nowhere."""
        if self.keys_file:
            return Path(self.keys_file).expanduser()
        return Path(self.home).expanduser() / KEYS_FILE if self.home else None

    @model_validator(mode="after")
    def _check_admin_access(self) -> Self:
        listen = self.admin_listen
        if not listen or listen.startswith(UNIX):
            return self
        if not (self.mesh_ca or self.token()):
            raise ValueError(
                f"INFERMESH_ADMIN_LISTEN={listen!r} would let everybody who reaches it stop the mesh. Set "
                "INFERMESH_MESH_TOKEN or INFERMESH_MESH_TOKEN_FILE, turn on mutual TLS with INFERMESH_MESH_CA, "
                "INFERMESH_MESH_CERT and INFERMESH_MESH_KEY, or listen on unix:PATH"
            )
        check_exposure("INFERMESH_ADMIN_LISTEN", listen, protected=bool(self.mesh_ca), insecure=self.insecure)
        return self

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
