"""Owns how long an endpoint may be silent: while it is reached, before the first token, between tokens. Pure.

Knows endpoints as snapshots; who waits and what happens then is elsewhere.
"""

from dataclasses import dataclass

from infermesh_router.policy.snapshot import EndpointSnapshot

FACTOR = 3.0
"""Times the expected wait for a first token that is waited for, beside the least."""
_KV_FULL = 0.95


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """The limits, in seconds."""

    connect_s: float = 5.0
    """Longest wait for a connection that is not up."""
    first_token_min_s: float = 20.0
    first_token_max_s: float = 600.0
    stall_min_s: float = 5.0
    stall_max_s: float = 120.0
    stall_gaps: float = 50.0
    """Gaps between tokens, as measured, that a stream may be silent for."""

    def first_token_s(self, endpoint: EndpointSnapshot) -> float:
        """Longest silence before a first token: first_token_min_s + FACTOR x its seconds to drain.

        An endpoint whose prefill rate has not been measured has first_token_max_s.
        """
        if not endpoint.prefill_tokens_per_s:
            return self.first_token_max_s
        return min(self.first_token_max_s, self.first_token_min_s + FACTOR * endpoint.seconds_to_drain)

    def stall_s(self, endpoint: EndpointSnapshot, gap_s: float) -> float:
        """Longest silence between tokens; `gap_s` is the stream's own mean gap so far.

        stall_gaps x the larger of that and the gap by the endpoint's report (sequences / decode rate), and FACTOR x the
        time of prefilling what waits, as prefills delay decoding; within stall_min_s and stall_max_s. stall_max_s where
        the KV cache is full: a sequence that lost its blocks waits for another's end.
        """
        if endpoint.kv_cache_usage >= _KV_FULL:
            return self.stall_max_s
        rate, prefill_rate = endpoint.decode_tokens_per_s, endpoint.prefill_tokens_per_s
        reported_gap_s = endpoint.sequences / rate if rate else 0.0
        prefill_s = endpoint.waiting_tokens / prefill_rate if prefill_rate else 0.0
        silence_s = self.stall_gaps * max(gap_s, reported_gap_s) + FACTOR * prefill_s
        return min(self.stall_max_s, max(self.stall_min_s, silence_s))
