"""Abandons streams whose endpoint has been silent for too long; one timer checks all streams."""

import asyncio
import math
from dataclasses import dataclass

from infermesh_router.fleet.faults import ENGINE_SILENT, FIRST_TOKEN_TIMEOUT, STREAM_SILENT
from infermesh_router.relay.attempt import Attempt
from infermesh_router.relay.patience import Patience
from infermesh_runtime.background.tasks import BackgroundTask, TaskSupervisor
from infermesh_runtime.errors import Unavailable

_TICKS = 5
"""Looks per shortest limit, so that silence is noticed at most a fifth of that limit late."""


@dataclass(slots=True)
class _Seen:
    """What the last look saw of an attempt."""

    waits: int
    since_s: float
    """When this many waits were first seen."""
    began_s: float = 0.0
    """When the first look saw a token, and how many waits there were then; gaps are measured from there."""
    began_waits: int = 0


class StallWatch:
    """Watches attempts from `add` to `remove`. Needs a running event loop.

    A stream that no other endpoint could continue gets the longest limit, because all it can do is wait.
    """

    def __init__(self, patience: Patience, tasks: TaskSupervisor | None = None) -> None:
        self._patience = patience
        self._tick_s = min(patience.stall_min_s, patience.first_token_min_s) / _TICKS
        self._seen: dict[Attempt, _Seen] = {}
        self._ended_s: dict[tuple[str, str], float] = {}
        """When an attempt that had begun last ended, by endpoint and model."""
        self._tasks = tasks or TaskSupervisor()
        self._looking: BackgroundTask | None = None

    def add(self, attempt: Attempt) -> None:
        """Starts watching an attempt that was just sent."""
        now_s = asyncio.get_running_loop().time()
        self._seen[attempt] = _Seen(attempt.waits, now_s)
        if self._looking is None or self._looking.done:
            self._looking = self._tasks.start("stall watch", self._keep_looking)

    def remove(self, attempt: Attempt) -> None:
        """Stops watching it."""
        if self._seen.pop(attempt, None) and attempt.begun and attempt.abandoned is None:
            self._ended_s[_engine(attempt)] = asyncio.get_running_loop().time()

    async def _keep_looking(self) -> None:
        """Looks at all attempts again and again; ends when there is none."""
        while self._seen:
            await asyncio.sleep(self._tick_s)
            self._tick(asyncio.get_running_loop().time())
        self._ended_s.clear()

    def _tick(self, now_s: float) -> None:
        for attempt, seen in list(self._seen.items()):
            if attempt.waits != seen.waits:
                seen.waits, seen.since_s = attempt.waits, now_s
                if attempt.begun and not seen.began_waits:
                    seen.began_s, seen.began_waits = now_s, attempt.waits
            elif attempt.waiting:
                self._look(attempt, seen, now_s)

    def _look(self, attempt: Attempt, seen: _Seen, now_s: float) -> None:
        silence_s, patience = now_s - seen.since_s, self._patience
        snapshot, model = attempt.grant.endpoint.snapshot, attempt.grant.lease.model
        if silence_s < self._tick_s:
            return
        if attempt.begun:
            gaps = attempt.waits - seen.began_waits
            gap_s = (seen.since_s - seen.began_s) / gaps if seen.began_waits and gaps else 0.0
            longest_s = patience.stall_max_s
            limit_s = patience.stall_s(snapshot, model, gap_s)
            if not attempt.kind.steady:  # the next part may take as long as the first one
                limit_s = longest_s = max(longest_s, patience.first_token_max_s)
        else:
            limit_s, longest_s = patience.first_token_s(snapshot, model), patience.first_token_max_s
        if silence_s >= longest_s or (silence_s >= limit_s and attempt.may_move()):
            reason = STREAM_SILENT if attempt.begun else FIRST_TOKEN_TIMEOUT
            what = f"Endpoint {attempt.address} has been silent for {silence_s:.3g} s."
            others = {} if self._others_heard(attempt, seen.since_s) else ENGINE_SILENT
            attempt.abandon(Unavailable(what, reason=reason, metadata=others))

    def _others_heard(self, attempt: Attempt, since_s: float) -> bool:
        """Whether the attempt's engine has sent anything to another attempt since then."""
        engine = _engine(attempt)
        return self._ended_s.get(engine, -math.inf) > since_s or any(
            other is not attempt and other.begun and seen.since_s > since_s and _engine(other) == engine
            for other, seen in self._seen.items()
        )


def _engine(attempt: Attempt) -> tuple[str, str]:
    return attempt.address, attempt.grant.lease.model
