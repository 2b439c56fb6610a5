"""Owns how good each endpoint is for a request. Pure: a scorer gives each endpoint, in order, a number in [0, 1].

A scorer's weight says how much of its score counts; SCORERS holds the defaults.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from infermesh_router.snapshot import (
    DEFAULT_DECODE_TOKENS_PER_S,
    DEFAULT_PREFILL_TOKENS_PER_S,
    EXPECTED_OUTPUT_TOKENS,
    EndpointSnapshot,
    Wanted,
)

Endpoints = Sequence[EndpointSnapshot]


@dataclass(frozen=True, slots=True)
class Scorer:
    """One rule about who answers best; its name is the reason given when it decided."""

    name: str
    weight: float
    score: Callable[[Endpoints, Wanted], list[float]]


def score_drain(endpoints: Endpoints, wanted: Wanted) -> list[float]:
    """1 / (1 + seconds to drain all it has and this request): halves at one second.

    seconds = (waiting + prompt tokens) / prefill rate + (sequences + asked) x EXPECTED_OUTPUT_TOKENS / decode rate.
    A rate that has not been measured is taken as the best among the candidates, so that a new endpoint gets work and
    is measured; where none has been, as the default.
    """
    prefill = max(e.prefill_tokens_per_s for e in endpoints) or DEFAULT_PREFILL_TOKENS_PER_S
    decode = max(e.decode_tokens_per_s for e in endpoints) or DEFAULT_DECODE_TOKENS_PER_S
    prompt, asked, expected = wanted.prompt_tokens, wanted.sequences, EXPECTED_OUTPUT_TOKENS
    return [
        1.0
        / (
            1.0
            + (e.waiting_tokens + prompt) / (e.prefill_tokens_per_s or prefill)
            + (e.sequences + asked) * expected / (e.decode_tokens_per_s or decode)
        )
        for e in endpoints
    ]


def score_kv_headroom(endpoints: Endpoints, wanted: Wanted) -> list[float]:  # noqa: ARG001 - a scorer's shape
    """Share of the KV cache that no running sequence holds; 1 where nothing is reported."""
    return [1.0 - e.kv_cache_usage for e in endpoints]


def score_session(endpoints: Endpoints, wanted: Wanted) -> list[float]:
    """1 for the endpoint that served the session's last request, whose prefix cache knows it; 0 for the others."""
    address = wanted.session_endpoint
    return [1.0 if e.address == address else 0.0 for e in endpoints]


SCORERS: tuple[Scorer, ...] = (
    Scorer("least_seconds_to_drain", 1.0, score_drain),
    Scorer("kv_headroom", 0.2, score_kv_headroom),
    Scorer("session_affinity", 0.3, score_session),
)
