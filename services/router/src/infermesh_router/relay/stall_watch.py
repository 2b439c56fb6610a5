"""Owns noticing that an endpoint says nothing: one ticker looks at all streams. Knows no messages and no failover."""

import asyncio
from dataclasses import dataclass

from infermesh_router.fleet.faults import FIRST_TOKEN_TIMEOUT, STREAM_SILENT
from infermesh_router.relay.attempt import Attempt
from infermesh_router.relay.patience import Patience
from infermesh_runtime.errors import Unavailable

_TICKS = 5
"""Looks within the shortest limit, so that silence is noticed at most a fifth of it late."""


@dataclass(slots=True)
class _Seen:
    """What the last look saw."""

    progress: int
    since_s: float
    """When `progress` was seen first."""
    began_s: float


class StallWatch:
    """Abandons attempts whose endpoint is silent for too long. Needs a running event loop.

    A stream that no other endpoint could go on with is given the longest limit: waiting is all that may help.
    """

    def __init__(self, patience: Patience) -> None:
        self._patience = patience
        self._tick_s = min(patience.stall_min_s, patience.first_token_min_s) / _TICKS
        self._seen: dict[Attempt, _Seen] = {}
        self._timer: asyncio.TimerHandle | None = None

    def add(self, attempt: Attempt) -> None:
        """Watches an attempt that was just sent."""
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        self._seen[attempt] = _Seen(attempt.progress, now_s, now_s)
        if self._timer is None:
            self._timer = loop.call_later(self._tick_s, self._tick)

    def remove(self, attempt: Attempt) -> None:
        """Watches it no longer. The ticker ends with the last one."""
        self._seen.pop(attempt, None)
        if not self._seen and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now_s = loop.time()
        self._timer = loop.call_later(self._tick_s, self._tick)
        for attempt, seen in list(self._seen.items()):
            if attempt.progress != seen.progress:
                seen.progress, seen.since_s = attempt.progress, now_s
            elif attempt.progress % 2:
                self._look(attempt, seen, now_s)

    def _look(self, attempt: Attempt, seen: _Seen, now_s: float) -> None:
        silence_s, endpoint, patience = now_s - seen.since_s, attempt.grant.endpoint, self._patience
        if silence_s < self._tick_s:
            return
        if attempt.begun:
            gap_s = (seen.since_s - seen.began_s) / max(1, attempt.progress // 2)
            limit_s, longest_s = patience.stall_s(endpoint.snapshot, gap_s), patience.stall_max_s
        else:
            limit_s, longest_s = patience.first_token_s(endpoint.snapshot), patience.first_token_max_s
        if silence_s >= longest_s or (silence_s >= limit_s and attempt.may_move()):
            reason = STREAM_SILENT if attempt.begun else FIRST_TOKEN_TIMEOUT
            attempt.abandon(
                Unavailable(f"Endpoint {attempt.address} has been silent for {silence_s:.3g} s.", reason=reason)
            )
