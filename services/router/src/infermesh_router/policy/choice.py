"""Owns the choice of an endpoint: filters, then scorers, then pick. Pure: no clock, no I/O, no memory.

Reasons, as told to clients in Started.reason:
  only_endpoint           the filters left one
  named_endpoint          the request named it as its device
  least_seconds_to_drain  it would be done first
  kv_headroom             drains about as soon, and has more KV cache free
  prefix_affinity         its prefix cache is expected to hold most of the prompt
  prefix_hash             nothing is known of the prompt's prefix: among about equals, the one that its hash falls on
  session_affinity        served the session's last request
  device_preference       is on the device that the model's rule in mesh.yaml prefers
  size_rule               is on the device that models of this size prefer
  least_cost              costs less per token
  equal                   as good as others; they take turns
  retry                   an earlier endpoint failed before its first token
  cpu_overflow            a CPU, though the model prefers the GPU: the accelerators are too busy
  gpu_unavailable         a CPU, though the model prefers the GPU: no accelerator that has the model can take it now
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from infermesh_router.policy.filters import FILTERS, Filter, check_ambiguity, explain_refusal, keep_untried
from infermesh_router.policy.placing import Placement, place
from infermesh_router.policy.prefix import pick_by_hash
from infermesh_router.policy.scorers import SCORERS, Scorer
from infermesh_router.policy.snapshot import EndpointSnapshot, Wanted
from infermesh_router.policy.table import CPU_BITS, GPU_BITS, Floats, Mask, Table, as_table
from infermesh_runtime.errors import InfermeshError, Unavailable

__all__ = ["Choice", "Placement", "Rules", "choose", "place"]

ONLY_ENDPOINT = "only_endpoint"
NAMED_ENDPOINT = "named_endpoint"
PREFIX_HASH = "prefix_hash"
EQUAL = "equal"
RETRY = "retry"
CPU_OVERFLOW = "cpu_overflow"
GPU_UNAVAILABLE = "gpu_unavailable"

NEAR = 0.05
"""Distance in total score within which the prefix's hash decides."""
_TIE = 1e-9


@dataclass(frozen=True, slots=True)
class Rules:
    """What a choice is made by."""

    filters: tuple[Filter, ...] = FILTERS
    scorers: tuple[Scorer, ...] = SCORERS


@dataclass(frozen=True, slots=True)
class Choice:
    """Who answers, and why."""

    address: str
    reason: str
    prompt_tokens: int = 0
    """Tokens of the prompt that it is expected to prefill, not counting those in its prefix cache: what to credit."""


DEFAULT_RULES = Rules()


def choose(
    endpoints: Sequence[EndpointSnapshot], wanted: Wanted, *, turn: int = 0, rules: Rules = DEFAULT_RULES
) -> Choice:
    """The endpoint for a request. `turn` counts choices, so that equal endpoints take turns.

    A Table is used as it is; other sequences are made into one. Raises the error of the filter that left nothing:
    ModelNotFound, DeviceNotAvailable, Unavailable, Saturated, or ModelNotLoaded where an endpoint could load the model;
    InvalidArgument when no model is named and there are several.
    """
    table = as_table(endpoints)
    candidates = _apply_filters(table, wanted, rules.filters)
    rows = candidates.nonzero()[0]
    if not len(rows):
        raise _refusal(table, wanted, rules.filters)
    check_ambiguity(table, candidates, wanted)
    if len(rows) == 1:
        row = int(rows[0])
        return _make_choice(table, row, wanted, _reason_of_only(table[row], wanted))
    scored, totals = [], np.where(candidates, 0.0, -np.inf)
    for scorer in rules.scorers:
        if scorer.weight and (scores := scorer.score(table, candidates, wanted)) is not None:
            scored.append((scorer, scores))
            totals += scorer.weight * scores
    row, reason = _pick(table, totals, scored, wanted, turn)
    return _make_choice(table, row, wanted, reason)


def _apply_filters(table: Table, wanted: Wanted, filters: tuple[Filter, ...]) -> Mask:
    if not len(table):
        raise Unavailable("No endpoint is known.", reason="NO_ENDPOINT", retry_after_s=1.0)
    key = (filters, wanted.model, wanted.device)
    candidates = table.keep(key, lambda: _apply_stable(table, wanted, filters))
    for rule in filters:
        if not rule.stable:
            candidates = rule.keep(table, candidates, wanted)
    return candidates


def _apply_stable(table: Table, wanted: Wanted, filters: Iterable[Filter]) -> Mask:
    candidates = np.ones(len(table), bool)
    for rule in filters:
        if rule.stable:
            candidates = rule.keep(table, candidates, wanted)
    return candidates


def _refusal(table: Table, wanted: Wanted, filters: Iterable[Filter]) -> InfermeshError:
    """The error of the first filter that leaves none."""
    candidates = np.ones(len(table), bool)
    for rule in filters:
        kept = rule.keep(table, candidates, wanted)
        if not kept.any():
            return explain_refusal(rule, table, candidates, wanted)
        candidates = kept
    raise AssertionError("the filters left somebody")


def _pick(
    table: Table, totals: Floats, scored: Sequence[tuple[Scorer, Floats]], wanted: Wanted, turn: int
) -> tuple[int, str]:
    """The row with the best total, and the reason. Where nothing is known of a prefix, its hash decides among near."""
    best = totals[totals.argmax()]
    if wanted.blocks and not wanted.cached_tokens and not wanted.session_endpoint:
        near = np.flatnonzero(totals >= best - NEAR)
        if len(near) > 1:
            return int(near[pick_by_hash(table.address_hashes[near], wanted.blocks)]), PREFIX_HASH
    ties = np.flatnonzero(totals >= best - _TIE)
    if len(ties) > 1:
        in_flight = table.in_flight[ties]
        ties = ties[in_flight == in_flight.min()]
    row = int(ties[turn % len(ties)])
    return row, _reason_of_pick(row, totals, scored)


def _reason_of_pick(picked: int, totals: Floats, scored: Sequence[tuple[Scorer, Floats]]) -> str:
    """The scorer that put the picked endpoint furthest ahead of the second best."""
    others = totals.copy()
    others[picked] = -np.inf
    second = int(others.argmax())
    if totals[picked] - totals[second] <= _TIE:
        return EQUAL
    return max(scored, key=lambda s: s[0].weight * (s[1][picked] - s[1][second]))[0].name


def _reason_of_only(endpoint: EndpointSnapshot, wanted: Wanted) -> str:
    return NAMED_ENDPOINT if endpoint.address == wanted.device else ONLY_ENDPOINT


def _make_choice(table: Table, row: int, wanted: Wanted, reason: str) -> Choice:
    address = table[row].address
    reason = _reason_of_fallback(table, row, wanted) or (RETRY if wanted.tried else reason)
    cached = wanted.cached_tokens.get(address, 0)
    return Choice(address, reason, max(0, wanted.prompt_tokens - cached))


def _reason_of_fallback(table: Table, row: int, wanted: Wanted) -> str:
    """Why a request that prefers the GPU goes to a CPU though accelerators list the model; "" when it does not."""
    if wanted.preferred_device != "gpu" or not table.device_bits[row] & CPU_BITS:
        return ""
    accelerators = table.serving(wanted.model) & table.on_device(GPU_BITS)
    if not accelerators.any():
        return ""
    able = keep_untried(table, accelerators & table.usable & table.ready(wanted.model), wanted)
    return CPU_OVERFLOW if able.any() else GPU_UNAVAILABLE
