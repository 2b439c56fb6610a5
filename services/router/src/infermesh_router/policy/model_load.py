"""What one model does on one endpoint, and how long its work takes beside the endpoint's other models."""

from collections.abc import Iterable
from dataclasses import dataclass, fields
from operator import attrgetter

DEFAULT_PREFILL_TOKENS_PER_S = 1000.0
DEFAULT_DECODE_TOKENS_PER_S = 100.0
EXPECTED_OUTPUT_TOKENS = 128
"""How many tokens we expect a sequence still to generate; nothing better is known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelLoad:
    """The load of one model on an endpoint, as the router sees it at one moment."""

    waiting_tokens: int = 0
    """Prompt tokens still to prefill: those reported, plus those we sent since that report."""
    sequences: int = 0
    """Sequences running or waiting: those reported, plus those we sent since that report."""
    prefill_tokens_per_s: float = 0.0
    """As the endpoint measured it; 0 before it has measured any."""
    decode_tokens_per_s: float = 0.0
    """As the endpoint measured it, summed over the sequences; 0 before it has measured any."""
    kv_cache_usage: float = 0.0
    """Share of the KV blocks held by running sequences, in [0, 1]."""
    kv_cache_tokens: int = 0
    """Size of the KV cache; 0 if unknown."""
    max_running: int = 0
    """Most sequences that run at once; 0 if unknown."""
    max_waiting: int = 0
    """Most sequences that may wait in the endpoint's own queue; unknown if max_running is 0."""
    full: bool = False
    """Whether the endpoint has sent a request back since its last report: it takes none until the next one."""

    def with_work(self, waiting_tokens: int, sequences: int, full: bool) -> "ModelLoad":
        """A copy with these values. `dataclasses.replace` takes three times as long, and this runs per request."""
        other = object.__new__(ModelLoad)
        for write, value in zip(_WRITES, _READ_ALL(self), strict=True):
            write(other, value)
        _set(other, "waiting_tokens", waiting_tokens)
        _set(other, "sequences", sequences)
        _set(other, "full", full)
        return other

    @property
    def capacity(self) -> int:
        """Most sequences that it accepts, running and waiting together; 0 if unknown."""
        return self.max_running + self.max_waiting if self.max_running else 0

    @property
    def room(self) -> float:
        """Sequences that it takes now: any number when idle, as requests larger than its capacity must run too."""
        if self.full:
            return 0.0
        return self.capacity - self.sequences if self.capacity and self.sequences else float("inf")

    @property
    def work_s(self) -> float:
        """Time that its work takes if it has the device to itself: prefill of the waiting tokens, then decoding.

        seconds = waiting_tokens / prefill rate + sequences x EXPECTED_OUTPUT_TOKENS / decode rate. The defaults above
        stand in for rates that have not been measured.
        """
        prefill = self.waiting_tokens / (self.prefill_tokens_per_s or DEFAULT_PREFILL_TOKENS_PER_S)
        decode = self.sequences * EXPECTED_OUTPUT_TOKENS / (self.decode_tokens_per_s or DEFAULT_DECODE_TOKENS_PER_S)
        return prefill + decode


_READ_ALL = attrgetter(*(f.name for f in fields(ModelLoad)))
_WRITES = [getattr(ModelLoad, f.name).__set__ for f in fields(ModelLoad)]
_set = object.__setattr__


def shared_drain_s(own_s: float, others_s: Iterable[float]) -> tuple[float, float]:
    """When work of `own_s` is finished beside others', and how many times longer a little more of it would take.

    The models of an endpoint share its device. While several have work they take equal turns, so each other model holds
    this one up for as long as it has work itself, but never for longer than this one: own + sum of min(other, own).
    What is added to this one is held up by those that still work then: 1 + how many have more work than this one.
    """
    drain_s, slower = own_s, 1.0
    for other_s in others_s:
        drain_s += min(other_s, own_s)
        slower += other_s > own_s
    return drain_s, slower
