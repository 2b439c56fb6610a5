"""The policy's inputs: an endpoint at one moment, and what a request wants."""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from operator import attrgetter

DEFAULT_PREFILL_TOKENS_PER_S = 1000.0
DEFAULT_DECODE_TOKENS_PER_S = 100.0
EXPECTED_OUTPUT_TOKENS = 128
"""How many tokens we expect a sequence still to generate; nothing better is known."""


class DeviceKind(StrEnum):
    """Kind of an endpoint's device. A router reports UNKNOWN, because it may have several kinds behind it."""

    CPU = "cpu"
    XPU = "xpu"
    CUDA = "cuda"
    UNKNOWN = "unknown"


class EndpointState(StrEnum):
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
    state: EndpointState = EndpointState.READY
    device: DeviceKind = DeviceKind.CPU
    models: frozenset[str] = frozenset()
    """Models that it serves or is loading."""
    ready_models: frozenset[str] = frozenset()
    """Models that it can answer with now."""
    waiting_tokens: int = 0
    """Prompt tokens still to prefill: those it reported, plus those we sent since that report."""
    sequences: int = 0
    """Sequences running or waiting: those it reported, plus those we sent since that report."""
    prefill_tokens_per_s: float = 0.0
    """As the endpoint measured it; 0 before it has measured any."""
    decode_tokens_per_s: float = 0.0
    """As the endpoint measured it, summed over its sequences; 0 before it has measured any."""
    kv_cache_usage: float = 0.0
    """Share of the KV blocks held by running sequences, in [0, 1]."""
    kv_cache_tokens: int = 0
    """Size of the KV cache; 0 if unknown."""
    in_flight: int = 0
    """Requests that this router has running on it."""
    max_running: int = 0
    """Most sequences that run at once; 0 if unknown."""
    max_waiting: int = 0
    """Most sequences that may wait in its own queue; unknown if max_running is 0."""
    memory_total_bytes: int = 0
    """0 if unknown."""
    memory_free_bytes: int = 0
    evictable_bytes: int = 0
    """Memory that unloading every idle, unpinned model would free."""
    available: Mapping[str, int] = field(default_factory=dict)
    """Model → bytes of memory that loading it takes, for every model it could load, including loaded ones."""
    model_sizes: Mapping[str, int] = field(default_factory=dict)
    """Model → bytes of its weights, for every model it has or could load; unknown sizes are left out."""
    breaker_open: bool = False
    """Whether its circuit breaker refuses requests now."""
    runtime: str = ""
    """What runs its models, for example "openvino 2026.4.1"; empty if unknown."""
    request_s: Mapping[str, float] = field(default_factory=dict)
    """Model → measured time of a typical request, in seconds, for models that it runs or ran (see `speed`)."""

    def with_load(
        self, *, connected: bool, waiting_tokens: int, sequences: int, in_flight: int, breaker_open: bool
    ) -> "EndpointSnapshot":
        """A copy with these values. `dataclasses.replace` takes three times as long, and this runs per request."""
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
        """Most sequences that it accepts, running and waiting together; 0 if unknown."""
        return self.max_running + self.max_waiting if self.max_running else 0

    @property
    def seconds_to_drain(self) -> float:
        """Estimated time until it has finished all its work: prefill of the waiting tokens, then decoding.

        seconds = waiting_tokens / prefill rate + sequences x EXPECTED_OUTPUT_TOKENS / decode rate. The defaults above
        stand in for rates that have not been measured.
        """
        prefill = self.waiting_tokens / (self.prefill_tokens_per_s or DEFAULT_PREFILL_TOKENS_PER_S)
        decode = self.sequences * EXPECTED_OUTPUT_TOKENS / (self.decode_tokens_per_s or DEFAULT_DECODE_TOKENS_PER_S)
        return prefill + decode


_READ_ALL = attrgetter(*(f.name for f in fields(EndpointSnapshot)))
_WRITES = [getattr(EndpointSnapshot, f.name).__set__ for f in fields(EndpointSnapshot)]
_set = object.__setattr__


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """What one request needs from an endpoint, and what the router knows about it."""

    model: str = ""
    """Empty means the only model there is."""
    device: str = ""
    """ "" or "auto", "gpu", "cpu", "xpu", "cuda", or an endpoint's address."""
    prompt_tokens: int = 0
    """Estimated length of the prompt."""
    sequences: int = 1
    session_endpoint: str = ""
    """Address of the endpoint that served this session's last request."""
    tried: frozenset[str] = frozenset()
    """Addresses of the endpoints on which this request has failed."""
    alias: str = ""
    """The alias that the client used for `model`; empty if it used none."""
    blocks: tuple[int, ...] = ()
    """Hashes of the prompt's blocks (see `prefix_hash`); empty for a prompt shorter than one block."""
    client: str = ""
    """The client, so that waiting requests are served fairly; empty if unknown."""
    priority: int = 0
    """Waiting requests with a larger priority are served first."""
    max_tokens: int = 0
    """Most tokens to generate for each sequence; 0 if the request sets no limit."""
    cached_tokens: Mapping[str, int] = field(default_factory=dict)
    """Address → prompt tokens that we expect its prefix cache to hold; endpoints with none are left out."""
    preferred_device: str = ""
    """ "gpu" or "cpu" if a rule prefers one (see `preference`), else ""."""
    preference_reason: str = ""
    """Which kind of rule prefers it: "device_preference" or "size_rule"."""
    overflowing: bool = False
    """Whether requests that prefer the GPU may go to the CPU now (see `overflow`)."""
