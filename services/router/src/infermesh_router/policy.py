"""Owns the choice of an endpoint: filters, then scorers, then pick. Pure: no clock, no I/O, no memory.

Reasons, as told to clients in Started.reason:
  only_endpoint           the filters left one
  named_endpoint          the request named it as its device
  least_seconds_to_drain  it would be done first
  kv_headroom             drains about as soon, and has more KV cache free
  session_affinity        served the session's last request
  equal                   as good as others; they take turns
  retry                   an earlier endpoint failed before its first token
"""

from collections.abc import Sequence
from dataclasses import dataclass

from infermesh_router.filters import FILTERS, Filter, check_ambiguity
from infermesh_router.scorers import SCORERS, Scorer
from infermesh_router.snapshot import EndpointSnapshot, Wanted
from infermesh_runtime.errors import InfermeshError, Unavailable

ONLY_ENDPOINT = "only_endpoint"
NAMED_ENDPOINT = "named_endpoint"
EQUAL = "equal"
RETRY = "retry"

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

    Raises the error of the filter that left nothing: ModelNotFound, DeviceNotAvailable, Unavailable; InvalidArgument
    when no model is named and there are several.
    """
    candidates = _apply_filters(endpoints, wanted, rules.filters)
    if len(candidates) == 1:
        return Choice(candidates[0].address, _reason_of_only(candidates[0], wanted), wanted.prompt_tokens)
    scored = [(scorer, scorer.score(candidates, wanted)) for scorer in rules.scorers]
    totals = [0.0] * len(candidates)
    for scorer, scores in scored:
        weight = scorer.weight
        totals = [total + weight * score for total, score in zip(totals, scores, strict=True)]
    best = max(totals)
    ties = [i for i, total in enumerate(totals) if best - total <= _TIE]
    if len(ties) > 1:
        fewest = min(candidates[i].in_flight for i in ties)
        ties = [i for i in ties if candidates[i].in_flight == fewest]
    picked = ties[turn % len(ties)]
    reason = RETRY if wanted.tried else _reason_of_pick(picked, totals, scored)
    return Choice(candidates[picked].address, reason, wanted.prompt_tokens)


def _apply_filters(
    endpoints: Sequence[EndpointSnapshot], wanted: Wanted, filters: Sequence[Filter]
) -> list[EndpointSnapshot]:
    if not endpoints:
        raise _no_endpoints()
    candidates = list(endpoints)
    for rule in filters:
        kept = rule.keep(candidates, wanted)
        if not kept:
            raise rule.refuse(candidates, wanted)
        candidates = kept
    check_ambiguity(candidates, wanted)
    return candidates


def _no_endpoints() -> InfermeshError:
    return Unavailable("No endpoint is known.", reason="NO_ENDPOINT", retry_after_s=1.0)


def _reason_of_only(endpoint: EndpointSnapshot, wanted: Wanted) -> str:
    if wanted.tried:
        return RETRY
    return NAMED_ENDPOINT if endpoint.address == wanted.device else ONLY_ENDPOINT


def _reason_of_pick(picked: int, totals: Sequence[float], scored: Sequence[tuple[Scorer, list[float]]]) -> str:
    """The scorer that put the picked endpoint furthest ahead of the second best."""
    second = max((i for i in range(len(totals)) if i != picked), key=totals.__getitem__)
    if totals[picked] - totals[second] <= _TIE:
        return EQUAL
    return max(scored, key=lambda s: s[0].weight * (s[1][picked] - s[1][second]))[0].name
