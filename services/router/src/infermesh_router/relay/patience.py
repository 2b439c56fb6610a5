"""How long an endpoint may be silent: while connecting, before the first token, and between tokens."""

from dataclasses import dataclass

from infermesh_router.policy.snapshot import EndpointSnapshot

FACTOR = 3.0
"""How many times its expected duration a wait may last, on top of the minimum."""
_KV_FULL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """The limits. Pure: an endpoint's snapshot goes in, seconds come out."""

    connect_s: float = 5.0
    """Longest wait for a connection, in seconds."""
    first_token_min_s: float = 20.0
    first_token_max_s: float = 600.0
    stall_min_s: float = 5.0
    stall_max_s: float = 120.0
    stall_gaps: float = 50.0
    """Longest silence of a running stream, in measured gaps between its tokens."""

    def first_token_s(self, endpoint: EndpointSnapshot, model: str) -> float:
        """Longest silence before a first token: first_token_min_s + FACTOR x the model's seconds to drain there.

        Never more than first_token_max_s, which also holds while the model's prefill rate is not measured.
        """
        if not endpoint.load_of(model).prefill_tokens_per_s:
            return self.first_token_max_s
        return min(self.first_token_max_s, self.first_token_min_s + FACTOR * endpoint.drain_of(model)[0])

    def stall_s(self, endpoint: EndpointSnapshot, model: str, gap_s: float) -> float:
        """Longest silence between tokens; `gap_s` is the stream's own mean gap so far.

        stall_gaps x the larger of `gap_s` and the gap that the endpoint reports (sequences / decode rate), plus
        FACTOR x the time to prefill what waits there, as prefills of any model delay decoding; within stall_min_s
        and stall_max_s. With a full KV cache it is stall_max_s: a preempted sequence waits until another one ends.
        """
        load = endpoint.load_of(model)
        if load.kv_cache_usage >= _KV_FULL:
            return self.stall_max_s
        rate, prefill_rate = load.decode_tokens_per_s, load.prefill_tokens_per_s
        reported_gap_s = load.sequences / rate if rate else 0.0
        prefill_s = endpoint.total.waiting_tokens / prefill_rate if prefill_rate else 0.0
        silence_s = self.stall_gaps * max(gap_s, reported_gap_s) + FACTOR * prefill_s
        return min(self.stall_max_s, max(self.stall_min_s, silence_s))
