"""Owns what a decision is made from: an endpoint at one moment, and what a request wants. No I/O, no gRPC."""

from dataclasses import dataclass
from enum import StrEnum

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
    in_flight: int = 0
    """Requests of this router on it."""

    @property
    def seconds_to_drain(self) -> float:
        """Time until it would have finished all it has: prefill of what waits, then decoding of every sequence.

        seconds = waiting_tokens / prefill rate + sequences x EXPECTED_OUTPUT_TOKENS / decode rate; a rate that has not
        been measured is taken as the default.
        """
        prefill = self.waiting_tokens / (self.prefill_tokens_per_s or DEFAULT_PREFILL_TOKENS_PER_S)
        decode = self.sequences * EXPECTED_OUTPUT_TOKENS / (self.decode_tokens_per_s or DEFAULT_DECODE_TOKENS_PER_S)
        return prefill + decode


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
