"""The queue of one model: who may wait, who is displaced when it is full, and the errors for refused requests."""

from collections.abc import Hashable
from dataclasses import dataclass

from infermesh_router.admission.drain_rate import DrainRate
from infermesh_router.admission.fair_queue import FairQueue
from infermesh_router.admission.pending_call import PendingCall
from infermesh_runtime.errors import DeadlineExceeded, InfermeshError, ResourceExhausted

QUEUE_FULL = "QUEUE_FULL"
DEADLINE_TOO_SHORT = "DEADLINE_TOO_SHORT"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionLimits:
    """How many requests may wait for one model, and for how long."""

    max_waiting: int = 1024
    """Requests that may wait. A stream that continues after a failure may always wait."""
    max_wait_s: float | None = None
    """Longest wait of a request, besides its own deadline; None: no limit."""


class ModelQueue:
    """The calls that wait for one model. `enter` and `leave` or `serve` come in pairs. Pure: it is told the time."""

    def __init__(self, model: str, rate: DrainRate) -> None:
        self.model = model
        self.waiting: FairQueue[PendingCall] = FairQueue()
        self.absent_since_s: dict[Hashable, float] = {}
        """By lane: since when no endpoint could serve it, even with room to spare."""
        self.absent_until_s: dict[Hashable, float] = {}
        """By such lane: when the first call in it stops waiting for one."""
        self._rate = rate

    def enter(self, pending: PendingCall, limits: AdmissionLimits, now_s: float) -> PendingCall | None:
        """Queues the call; returns the one that had to leave for it, if any.

        Raises ResourceExhausted (QUEUE_FULL, DEADLINE_TOO_SHORT). One that keeps its place is never refused.
        """
        if not pending.keeps_place:
            self._check_deadline(pending, limits, now_s)
        if not len(self.waiting):
            self._rate.begin(now_s)
        displaced = None
        if len(self.waiting) >= limits.max_waiting and not pending.keeps_place:
            displaced = self.waiting.find_displaced(pending)
            if displaced is None:
                raise self.full(now_s)
            self.waiting.remove(displaced)
        self.waiting.push(pending, pending.charge)
        pending.charge = None
        return displaced

    def serve(self, pending: PendingCall, now_s: float) -> None:
        """Takes out a call that got an endpoint."""
        pending.charge = self.waiting.serve(pending)
        self.note_present(pending.lane)
        self._rate.note(now_s)

    def note_present(self, lane: Hashable) -> None:
        """An endpoint can serve the lane, now or once it has room."""
        self.absent_since_s.pop(lane, None)
        self.absent_until_s.pop(lane, None)

    def leave(self, pending: PendingCall) -> None:
        """Takes out a call that got none. Leaving twice is safe."""
        self.waiting.remove(pending)

    def full(self, now_s: float) -> InfermeshError:
        """The error for a call that finds the queue full, or had to leave it for another."""
        waiting = len(self.waiting)
        return queue_full(self.model, waiting, retry_after_s=self._rate.retry_after_s(waiting, now_s))

    def _check_deadline(self, pending: PendingCall, limits: AdmissionLimits, now_s: float) -> None:
        expires_s = pending.expires_s(limits.max_wait_s)
        if expires_s is None:
            return
        ahead = self.waiting.count_ahead(pending)
        starts_in_s = self._rate.time_for(ahead + 1, now_s) if len(self.waiting) else None
        left_s = expires_s - now_s
        if starts_in_s is None or starts_in_s <= left_s:
            return
        raise ResourceExhausted(
            f"The request would start in about {starts_in_s:.1f} s ({ahead} requests are ahead), "
            f"but it may wait only {max(0.0, left_s):.1f} s.",
            reason=DEADLINE_TOO_SHORT,
            metadata={"model": self.model, "starts_in_ms": str(round(1000 * starts_in_s)), "ahead": str(ahead)},
            retry_after_s=self._rate.retry_after_s(ahead + 1, now_s),
        )


def queue_full(model: str, waiting: int, *, retry_after_s: float) -> ResourceExhausted:
    """The error for a call that finds as many waiting for its model as may wait."""
    return ResourceExhausted(
        f"The queue for model '{model}' is full ({waiting} waiting). Retry in {retry_after_s:.0f} s.",
        reason=QUEUE_FULL,
        metadata={"model": model, "waiting": str(waiting)},
        retry_after_s=retry_after_s,
    )


def expired(model: str, waited_s: float) -> DeadlineExceeded:
    """The error for a call whose deadline passed while it waited."""
    return DeadlineExceeded(
        f"The deadline passed after the request had waited {waited_s:.1f} s for an endpoint with model '{model}'.",
        reason="DEADLINE_EXCEEDED",
        metadata={"model": model, "queued_ms": str(round(1000 * waited_s))},
    )
