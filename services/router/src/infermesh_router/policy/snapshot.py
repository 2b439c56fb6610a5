"""Owns what a decision is made from: an endpoint at one moment, and what a request wants. No I/O, no gRPC."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from operator import attrgetter

DEFAULT_PREFILL_TOKENS_PER_S = 1000.0
DEFAULT_DECODE_TOKENS_PER_S = 100.0
EXPECTED_OUTPUT_TOKENS = 128
"""Tokens that a sequence is expected to have yet to generate, where nothing is known of it."""


class DeviceKind(StrEnum):
    """Kind of an endpoint's device; UNKNOWN also stands for several (a router)."""

    CPU = "cpu"
    XPU = "xpu"
    CUDA = "cuda"
    UNKNOWN = "unknown"


class State(StrEnum):
    """Whether an endpoint takes requests; UNKNOWN before its first report."""

    UNKNOWN = "unknown"
    LOADING = "loading"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointSnapshot:
    """An endpoint as the router sees it at one moment."""

    address: str
    connected: bool = True
    state: State = State.READY
    device: DeviceKind = DeviceKind.CPU
    models: frozenset[str] = frozenset()
    """Models it serves or loads."""
    ready_models: frozenset[str] = frozenset()
    """Models that can answer now."""
    waiting_tokens: int = 0
    """Tokens to be prefilled: as reported, and those sent since and not in a report yet."""
    sequences: int = 0
    """Sequences running or waiting: as reported, and those sent since."""
    prefill_tokens_per_s: float = 0.0
    """Measured; 0 before the first."""
    decode_tokens_per_s: float = 0.0
    """Measured, summed over sequences; 0 before the first."""
    kv_cache_usage: float = 0.0
    """Share of the KV blocks that running sequences hold, in [0, 1]."""
    kv_cache_tokens: int = 0
    """Size of the KV cache; 0: unknown."""
    in_flight: int = 0
    """Requests of this router on it."""
    max_running: int = 0
    """Most sequences that run at once; 0: unknown."""
    max_waiting: int = 0
    """Most sequences that may wait in its own queue; 0 with max_running: unknown."""
    memory_total_bytes: int = 0
    """0: unknown."""
    memory_free_bytes: int = 0
    evictable_bytes: int = 0
    """Memory of idle models that are not pinned."""
    available: Mapping[str, int] = field(default_factory=dict)
    """Models it could load, each with the bytes of memory that loading takes; those loaded among them."""
    model_sizes: Mapping[str, int] = field(default_factory=dict)
    """Bytes of the weights of the models it has or could load; a size that is not known is left out."""
    breaker_open: bool = False
    """Whether its circuit breaker lets nothing through."""

    def with_load(
        self, *, connected: bool, waiting_tokens: int, sequences: int, in_flight: int, breaker_open: bool
    ) -> "EndpointSnapshot":
        """The same with these. `dataclasses.replace` would take three times as long, at each report and request."""
        other = object.__new__(EndpointSnapshot)
        for write, value in zip(_WRITES, _READ_ALL(self), strict=True):
            write(other, value)
        _set(other, "connected", connected)
        _set(other, "waiting_tokens", waiting_tokens)
        _set(other, "sequences", sequences)
        _set(other, "in_flight", in_flight)
        _set(other, "breaker_open", breaker_open)
        return other

    @property
    def capacity(self) -> int:
        """Sequences that it takes, running and waiting; 0: unknown."""
        return self.max_running + self.max_waiting if self.max_running else 0

    @property
    def has_room(self) -> bool:
        """Whether it takes one more sequence; one whose capacity is not known does."""
        return not self.capacity or self.sequences < self.capacity

    @property
    def seconds_to_drain(self) -> float:
        """Time until it would have finished all it has: prefill of what waits, then decoding of every sequence.

        seconds = waiting_tokens / prefill rate + sequences x EXPECTED_OUTPUT_TOKENS / decode rate; a rate that has not
        been measured is taken as the default.
        """
        prefill = self.waiting_tokens / (self.prefill_tokens_per_s or DEFAULT_PREFILL_TOKENS_PER_S)
        decode = self.sequences * EXPECTED_OUTPUT_TOKENS / (self.decode_tokens_per_s or DEFAULT_DECODE_TOKENS_PER_S)
        return prefill + decode


_READ_ALL = attrgetter(*(f.name for f in fields(EndpointSnapshot)))
_WRITES = [getattr(EndpointSnapshot, f.name).__set__ for f in fields(EndpointSnapshot)]
_set = object.__setattr__


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What a request asks of an endpoint."""

    model: str = ""
    """Empty: the only model there is."""
    device: str = ""
    """ "" or "auto", "gpu", "cpu", "xpu", "cuda", or an endpoint's address."""
    prompt_tokens: int = 0
    """Estimate of the prompt's length."""
    sequences: int = 1
    session_endpoint: str = ""
    """Address of the endpoint that served the last request of this session."""
    tried: frozenset[str] = frozenset()
    """Addresses of endpoints on which this request failed."""
    alias: str = ""
    """The name that the client used, when it stands for `model`."""
    blocks: tuple[int, ...] = ()
    """Hashes of the prompt's blocks, each of all up to its end (`prefix`); empty: a short prompt."""
    client: str = ""
    """Who asks, for fairness while requests wait; empty: unknown."""
    priority: int = 0
    """Larger is served first among waiting requests."""
    max_tokens: int = 0
    """Most tokens to generate for a sequence; 0: not given."""
    cached_tokens: Mapping[str, int] = field(default_factory=dict)
    """Address → tokens of the prompt that its prefix cache is expected to hold; left out: none."""
    preferred_device: str = ""
    """ "gpu" or "cpu" when a rule prefers one (`preference`), else ""."""
    preference_reason: str = ""
    """The kind of rule that prefers it: "device_preference" or "size_rule"."""
    overflowing: bool = False
    """Whether requests that prefer the GPU may spill to the CPU now (`overflow`)."""
