"""Chooses the endpoint for a request: filter, score, pick. A pure function of snapshots and request.

Reasons of a choice, as clients see them in Started.reason. The endpoint
  only_endpoint           is the only one that the filters left
  named_endpoint          was named by the request as its device
  least_seconds_to_drain  is expected to finish the request first
  kv_headroom             drains about as soon as others, and has more free KV cache
  prefix_affinity         probably has most of the prompt in its prefix cache
  prefix_hash             is the one among near-equals that the hash of an unknown prompt prefix maps to
  session_hash            is the one among near-equals that the hash of an unknown session's id maps to
  session_affinity        served the session's last request
  device_preference       is on the device that the model's rule in mesh.yaml prefers
  size_rule               is on the device that models of this size prefer
  least_cost              costs less per token
  equal                   is as good as others; they take turns
  retry                   replaces one that failed before its first token
  cpu_overflow            is a CPU, because the accelerators that the model prefers are too busy
  gpu_unavailable         is a CPU, because no accelerator that has the model can take the request now
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from infermesh_router.policy.filters import (
    FILTERS,
    Filter,
    check_ambiguity,
    explain_refusal,
    keep_preferred,
    keep_untried,
)
from infermesh_router.policy.load_columns import Floats
from infermesh_router.policy.prefix.prefix_hash import pick_by_hash
from infermesh_router.policy.scorers import SCORERS, Scorer, finish_s
from infermesh_router.policy.snapshot import EndpointSnapshot, Wanted
from infermesh_router.policy.table import CPU_BITS, GPU_BITS, Mask, Table, as_table
from infermesh_runtime.errors import InfermeshError, Unavailable

Rows = NDArray[np.intp]

ONLY_ENDPOINT = "only_endpoint"
NAMED_ENDPOINT = "named_endpoint"
PREFIX_HASH = "prefix_hash"
SESSION_HASH = "session_hash"
EQUAL = "equal"
RETRY = "retry"
CPU_OVERFLOW = "cpu_overflow"
GPU_UNAVAILABLE = "gpu_unavailable"

NEAR = 0.05
"""Endpoints whose total score is this close to the best are near-equals, among which a hash decides."""
_TIE = 1e-9
MOST_RUNNERS_UP = 3
"""How many of the endpoints that were not chosen are told with the reason."""


@dataclass(frozen=True, slots=True)
class ChoiceProfile:
    """The filters and scorers that make a choice."""

    filters: tuple[Filter, ...] = FILTERS
    scorers: tuple[Scorer, ...] = SCORERS


class RunnerUp(NamedTuple):
    """An endpoint that could have been chosen."""

    endpoint: str
    score: float
    """Its total; 0 if a preferred device ruled it out; the largest one is chosen, but for near-equals."""
    seconds: float
    """Time until it would be done with the request; 0 if it was ruled out and is not measured yet."""


@dataclass(frozen=True, slots=True)
class Choice:
    """Which endpoint answers, and why."""

    address: str
    reason: str
    prompt_tokens: int = 0
    """Prompt tokens that it will probably prefill: all but those in its prefix cache. The router credits them to it."""
    score: float = field(default=0.0, compare=False)
    """Its total; 0 if it was the only one."""
    seconds: float = field(default=0.0, compare=False)
    """Time until it would be done with the request."""
    runners_up: tuple[RunnerUp, ...] = field(default=(), compare=False)
    """The best of the others, best first; at most MOST_RUNNERS_UP. A score of 0: a preferred device ruled it out."""


DEFAULT_PROFILE = ChoiceProfile()


def choose(
    endpoints: Sequence[EndpointSnapshot], wanted: Wanted, *, turn: int = 0, profile: ChoiceProfile = DEFAULT_PROFILE
) -> Choice:
    """The endpoint for a request. `turn` counts choices, so that equal endpoints take turns.

    Other sequences than a Table are converted to one. Raises the error of the filter that removed the last endpoint:
    ModelNotFound, DeviceNotAvailable, Unavailable or Saturated, or ModelNotLoaded if an endpoint could load the model.
    Raises InvalidArgument if the request names no model and there are several.
    """
    table = as_table(endpoints)
    candidates = _apply_filters(table, wanted, profile.filters)
    rows = candidates.nonzero()[0]
    if not len(rows):
        raise _refusal(table, wanted, profile.filters)
    check_ambiguity(table, candidates, wanted)
    seconds = finish_s(table, candidates, wanted)
    if len(rows) == 1:
        return _choose_only(table, int(rows[0]), wanted, seconds, profile.filters)
    scored, totals = [], np.where(candidates, 0.0, -np.inf)
    for scorer in profile.scorers:
        if scorer.weight and (scores := scorer.score(table, candidates, wanted, seconds)) is not None:
            scored.append((scorer, scores))
            totals += scorer.weight * scores
    row, reason = _pick(table, totals, scored, wanted, turn)
    return _make_choice(table, row, wanted, reason=reason, seconds=seconds, totals=totals)


def _apply_filters(table: Table, wanted: Wanted, filters: tuple[Filter, ...]) -> Mask:
    if not len(table):
        raise Unavailable(
            "The router has no endpoints yet. Set INFERMESH_WORKERS, or start a worker that registers.",
            reason="NO_ENDPOINT",
            retry_after_s=1.0,
        )
    key = (filters, wanted.model, wanted.device)
    candidates = table.keep(key, lambda: _apply_stable(table, wanted, filters))
    for each in filters:
        if not each.stable:
            candidates = each.keep(table, candidates, wanted)
    return candidates


def _apply_stable(table: Table, wanted: Wanted, filters: Iterable[Filter]) -> Mask:
    candidates = np.ones(len(table), bool)
    for each in filters:
        if each.stable:
            candidates = each.keep(table, candidates, wanted)
    return candidates


def _refusal(table: Table, wanted: Wanted, filters: Iterable[Filter]) -> InfermeshError:
    """The error of the first filter that leaves no endpoint."""
    candidates = np.ones(len(table), bool)
    for each in filters:
        kept = each.keep(table, candidates, wanted)
        if not kept.any():
            return explain_refusal(each, table, candidates, wanted)
        candidates = kept
    raise AssertionError("the filters left an endpoint, so there is nothing to refuse")


def _pick(
    table: Table, totals: Floats, scored: Sequence[tuple[Scorer, Floats]], wanted: Wanted, turn: int
) -> tuple[int, str]:
    """The row with the best total, and the reason.

    For an unknown session, or else an unknown prefix, its hash decides among near-equals.
    """
    best = totals[totals.argmax()]
    unknown = wanted.blocks if not wanted.cached_tokens and not wanted.session_endpoint else ()
    if key := wanted.session_key or unknown:
        near = np.flatnonzero(totals >= best - NEAR)
        if len(near) > 1:
            picked = int(near[pick_by_hash(table.address_hashes[near], key)])
            return picked, SESSION_HASH if wanted.session_key else PREFIX_HASH
    ties = np.flatnonzero(totals >= best - _TIE)
    if len(ties) > 1:
        in_flight = table.in_flight[ties]
        ties = ties[in_flight == in_flight.min()]
    row = int(ties[turn % len(ties)])
    return row, _reason_of_pick(row, totals, scored)


def _reason_of_pick(picked: int, totals: Floats, scored: Sequence[tuple[Scorer, Floats]]) -> str:
    """The name of the scorer that put the picked endpoint furthest ahead of the second best."""
    others = totals.copy()
    others[picked] = -np.inf
    second = int(others.argmax())
    if totals[picked] - totals[second] <= _TIE:
        return EQUAL
    return max(scored, key=lambda s: s[0].weight * (s[1][picked] - s[1][second]))[0].name


def _choose_only(table: Table, row: int, wanted: Wanted, seconds: Floats, filters: tuple[Filter, ...]) -> Choice:
    """The only one that the filters left. If the preferred device alone decided, the others are told without scores."""
    choice = _make_choice(table, row, wanted, reason=_reason_of_only(table[row], wanted), seconds=seconds)
    if wanted.preferred_device != "gpu" or wanted.overflowing or choice.reason != ONLY_ENDPOINT:
        return choice
    able = _apply_filters(table, wanted, _without_preference(filters))
    left_out = _left_out(table, np.flatnonzero(able), row, wanted, seconds)
    return replace(choice, reason=wanted.preference_reason, runners_up=left_out) if left_out else choice


@cache
def _without_preference(filters: tuple[Filter, ...]) -> tuple[Filter, ...]:
    return tuple(each for each in filters if each.keep is not keep_preferred)


def _left_out(table: Table, able: Rows, chosen: int, wanted: Wanted, seconds: Floats) -> tuple[RunnerUp, ...]:
    """The quickest of the rows that were able, but for the chosen one. `seconds` are guesses where no rate is known."""
    loads = table.loads(wanted.model)
    rows = able[able != chosen]
    measured = (loads.prefill_tokens_per_s[rows] > 0) & (loads.decode_tokens_per_s[rows] > 0)
    order = np.where(measured, seconds[rows], np.inf)
    if len(rows) > MOST_RUNNERS_UP:
        quickest = np.argpartition(order, MOST_RUNNERS_UP)[:MOST_RUNNERS_UP]
        rows, order = rows[quickest], order[quickest]
    return tuple(
        RunnerUp(table[int(rows[at])].address, 0.0, order.item(at) if np.isfinite(order[at]) else 0.0)
        for at in order.argsort(kind="stable")
    )


def _reason_of_only(endpoint: EndpointSnapshot, wanted: Wanted) -> str:
    return NAMED_ENDPOINT if endpoint.address == wanted.device else ONLY_ENDPOINT


def _make_choice(
    table: Table, row: int, wanted: Wanted, *, reason: str, seconds: Floats, totals: Floats | None = None
) -> Choice:
    address = table[row].address
    reason = _reason_of_fallback(table, row, wanted) or (RETRY if wanted.tried else reason)
    cached = wanted.cached_tokens.get(address, 0)
    prefilled = max(0, wanted.prompt_tokens - cached)
    if totals is None:
        return Choice(address, reason, prefilled, 0.0, float(seconds[row]))
    others = _runners_up(table, row, seconds, totals)
    return Choice(address, reason, prefilled, float(totals[row]), float(seconds[row]), others)


def _runners_up(table: Table, chosen: int, seconds: Floats, totals: Floats) -> tuple[RunnerUp, ...]:
    """The best of the rows that were not chosen. Those that the filters left out have a total of -inf."""
    left, found = totals.copy(), []
    left[chosen] = -np.inf
    for _ in range(MOST_RUNNERS_UP):
        row = int(left.argmax())
        score = left.item(row)
        if score == -np.inf:
            break
        left[row] = -np.inf
        found.append(RunnerUp(table[row].address, score, seconds.item(row)))
    return tuple(found)


def _reason_of_fallback(table: Table, row: int, wanted: Wanted) -> str:
    """Why a request that prefers the GPU goes to a CPU although accelerators list the model; "" if it does not."""
    if wanted.preferred_device != "gpu" or not table.device_bits[row] & CPU_BITS:
        return ""
    accelerators = table.serving(wanted.model) & table.on_device(GPU_BITS)
    if not accelerators.any():
        return ""
    able = keep_untried(table, accelerators & table.usable & table.ready(wanted.model), wanted)
    return CPU_OVERFLOW if able.any() else GPU_UNAVAILABLE
