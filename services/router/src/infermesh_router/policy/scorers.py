"""Scorers: how well each endpoint suits a request, as a number in [0, 1].

A scorer gives every row of the table a number, and those outside the mask of candidates are ignored; None means that it
does not tell the candidates apart. The endpoint with the largest weighted sum wins; SCORERS holds the default weights.

Weights are relative to seconds to drain: an affinity of weight w outweighs being slower by the factor 1 / (1 - w). So
an affinity with a weight below 1 never keeps a request on an endpoint that is far behind.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from infermesh_router.policy.load_columns import Floats
from infermesh_router.policy.model_load import (
    DEFAULT_DECODE_TOKENS_PER_S,
    DEFAULT_PREFILL_TOKENS_PER_S,
    EXPECTED_OUTPUT_TOKENS,
)
from infermesh_router.policy.snapshot import DeviceKind, Wanted
from infermesh_router.policy.table import CPU_BITS, DEVICE_BITS, GPU_BITS, Mask, Table

# ruff: noqa: ARG001 - all scorers have one signature

HALVING_S = 1.0
"""Seconds to drain at which the drain score is half that of an idle endpoint."""
Score = Callable[[Table, Mask, Wanted, Floats], Floats | None]
"""The last argument is what `finish_s` gives for the others. Gives None if it does not tell the candidates apart."""


@dataclass(frozen=True, slots=True)
class Scorer:
    """One rule about which endpoint suits best. Its name is the reason that clients see if it decided."""

    name: str
    weight: float
    score: Score


def finish_s(table: Table, candidates: Mask, wanted: Wanted) -> Floats:
    """Seconds in which each endpoint would be done with its work and this request.

    (waiting + prompt - cached tokens) / prefill rate + (sequences + asked) x EXPECTED_OUTPUT_TOKENS / decode rate.
    Cached tokens are what the prefix index expects on the endpoint. An unmeasured rate counts as the best among the
    candidates, so that a new endpoint gets work and is measured; if no candidate has measured its rate, as the default.
    All figures are the model's own, and the endpoint's other models count as `shared_drain_s` says; while a rate is
    unmeasured, they are left out.
    """
    loads = table.loads(wanted.model)
    token_s, sequence_s, drain_s = loads.token_s, loads.sequence_s, loads.drain_s
    if not loads.is_measured:
        token_s = 1.0 / _filled(loads.prefill_tokens_per_s, candidates, DEFAULT_PREFILL_TOKENS_PER_S)
        sequence_s = EXPECTED_OUTPUT_TOKENS / _filled(
            loads.decode_tokens_per_s, candidates, DEFAULT_DECODE_TOKENS_PER_S
        )
        drain_s = loads.waiting_tokens * token_s + loads.sequences * sequence_s
    behind = token_s * wanted.prompt_tokens
    if wanted.cached_tokens:
        behind -= token_s * np.minimum(table.spread(wanted.cached_tokens), wanted.prompt_tokens)
    behind += drain_s
    finished: Floats = behind + sequence_s * wanted.sequences
    return finished


def score_drain(table: Table, candidates: Mask, wanted: Wanted, seconds: Floats) -> Floats:
    """(HALVING_S + s of the quickest candidate) / (HALVING_S + s), where s is what `finish_s` gives.

    The score is relative to the quickest candidate, so that it tells endpoints apart however long all queues are.
    """
    behind = seconds + HALVING_S
    scores: Floats = behind[candidates].min() / behind
    return np.minimum(scores, 1.0, out=scores)


def score_kv_headroom(table: Table, candidates: Mask, wanted: Wanted, seconds: Floats) -> Floats:
    """1 - kv_cache_usage: the share of the model's KV cache that no running sequence holds; 1 if none is reported."""
    headroom: Floats = 1.0 - table.loads(wanted.model).kv_cache_usage
    return headroom


def score_prefix(table: Table, candidates: Mask, wanted: Wanted, seconds: Floats) -> Floats | None:
    """Expected cached tokens / prompt tokens; None if the prefix index knows nothing or the prompt is empty."""
    if not wanted.cached_tokens or not wanted.prompt_tokens:
        return None
    scores: Floats = np.minimum(1.0, table.spread(wanted.cached_tokens) / wanted.prompt_tokens)
    return scores


def score_session(table: Table, candidates: Mask, wanted: Wanted, seconds: Floats) -> Floats | None:
    """1 for the endpoint that served the session's last request, 0 for the others; None without such an endpoint."""
    row = table.row(wanted.session_endpoint)
    if row is None:
        return None
    scores = np.zeros(len(table))
    scores[row] = 1.0
    return scores


def score_device_preference(table: Table, candidates: Mask, wanted: Wanted, seconds: Floats) -> Floats | None:
    """1 on the device that the model's own rule in mesh.yaml prefers, 0 elsewhere; None without such a rule."""
    return _score_preferred(table, wanted, "device_preference")


def score_size_rule(table: Table, candidates: Mask, wanted: Wanted, seconds: Floats) -> Floats | None:
    """1 on the device that the size rules prefer for the model, 0 elsewhere; None if they prefer none."""
    return _score_preferred(table, wanted, "size_rule")


def cost_scorer(by_device: Mapping[str, float], by_endpoint: Mapping[str, float]) -> Score:
    """Makes a scorer: 1 - cost per token / cost of the most expensive candidate; None if nothing costs anything.

    Costs are in any one unit, by kind of device ("cpu", "xpu", "cuda", "unknown"); one given by address takes
    precedence. What has no cost costs 0.
    """
    by_bits = np.zeros(16)
    for kind, cost in by_device.items():
        by_bits[DEVICE_BITS[DeviceKind(kind)]] = cost

    def score_cost(table: Table, candidates: Mask, wanted: Wanted, seconds: Floats) -> Floats | None:
        costs = by_bits[table.device_bits]
        for address, cost in by_endpoint.items():
            if (row := table.row(address)) is not None:
                costs[row] = cost
        dearest = costs.max(where=candidates, initial=0.0)
        return 1.0 - np.minimum(1.0, costs / dearest) if dearest else None

    return score_cost


def _score_preferred(table: Table, wanted: Wanted, reason: str) -> Floats | None:
    if wanted.preference_reason != reason:
        return None
    bits = GPU_BITS if wanted.preferred_device == "gpu" else CPU_BITS
    return table.on_device(bits).astype(np.float64)


def _filled(rates: Floats, candidates: Mask, default: float) -> Floats:
    """The rates, with unmeasured ones replaced by the best among the candidates, or else by the default."""
    measured = rates > 0
    if measured.all():
        return rates
    return np.where(measured, rates, float(rates[candidates].max()) or default)


COST_WEIGHT = 0.2
"""Default weight of the scorer "least_cost", which exists only if mesh.yaml gives costs."""
SCORERS: tuple[Scorer, ...] = (
    Scorer("least_seconds_to_drain", 1.0, score_drain),
    Scorer("kv_headroom", 0.2, score_kv_headroom),
    Scorer("prefix_affinity", 0.3, score_prefix),
    Scorer("session_affinity", 0.3, score_session),
    Scorer("device_preference", 0.5, score_device_preference),
    Scorer("size_rule", 0.2, score_size_rule),
)
