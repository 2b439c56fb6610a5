"""Owns one model's queue: who may wait in it, who is shed and what they are told. Is told the time; does no I/O."""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from infermesh_router.admission.drain_rate import DrainRate
from infermesh_router.admission.fair_queue import FairQueue, Ticket
from infermesh_router.policy.snapshot import EXPECTED_OUTPUT_TOKENS, Wanted
from infermesh_runtime.errors import DeadlineExceeded, InfermeshError, ResourceExhausted

T = TypeVar("T")

QUEUE_FULL = "QUEUE_FULL"
DEADLINE_TOO_SHORT = "DEADLINE_TOO_SHORT"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionLimits:
    """How much may wait for one model."""

    max_waiting: int = 1024
    """Requests that wait; streams that go on after a failure are not counted out."""
    max_wait_s: float | None = None
    """Longest wait of a request, besides its own deadline; None: no limit."""


def cost_tokens(wanted: Wanted) -> float:
    """What serving the request counts for, between clients: its prompt and what it is expected to generate."""
    output = min(wanted.max_tokens or EXPECTED_OUTPUT_TOKENS, EXPECTED_OUTPUT_TOKENS)
    return float(max(1, wanted.prompt_tokens + output * wanted.sequences))


class ModelQueue(Generic[T]):
    """The requests that wait for one model. `enter` and `leave` or `serve` come in pairs."""

    def __init__(self, model: str, rate: DrainRate) -> None:
        self.model = model
        self.waiting: FairQueue[T] = FairQueue()
        self.absent_since_s: dict[Hashable, float] = {}
        """Since when nothing could serve a lane even if it had room, by lane."""
        self._rate = rate

    def enter(
        self,
        item: T,
        wanted: Wanted,
        *,
        lane: Hashable,
        resumed: bool,
        deadline_s: float | None,
        limits: AdmissionLimits,
        now_s: float,
    ) -> tuple[Ticket[T], Ticket[T] | None]:
        """The item's ticket, and that of the one that had to leave for it, if any.

        Raises ResourceExhausted (QUEUE_FULL, DEADLINE_TOO_SHORT) and DeadlineExceeded; a resumed item is only refused
        when its deadline has passed.
        """
        if not resumed:
            self._check_deadline(wanted, deadline_s, now_s)
        if not len(self.waiting):
            self._rate.begin(now_s)
        displaced = None
        if len(self.waiting) >= limits.max_waiting and not resumed:
            displaced = self.waiting.find_displaced(client=wanted.client, priority=wanted.priority, resumed=False)
            if displaced is None:
                raise self.full(now_s)
            self.waiting.remove(displaced)
        ticket = self.waiting.push(
            item,
            client=wanted.client,
            lane=lane,
            priority=wanted.priority,
            resumed=resumed,
            cost_tokens=cost_tokens(wanted),
        )
        return ticket, displaced

    def serve(self, ticket: Ticket[T], now_s: float) -> None:
        """The item is placed."""
        self.waiting.serve(ticket)
        self.absent_since_s.pop(ticket.lane, None)
        self._rate.note(now_s)

    def leave(self, ticket: Ticket[T]) -> None:
        """The item waits no more, unserved. Leaving twice is safe."""
        self.waiting.remove(ticket)

    def full(self, now_s: float) -> InfermeshError:
        """What one is told who finds the queue full, or had to leave it for another."""
        waiting = len(self.waiting)
        return queue_full(self.model, waiting, retry_after_s=self._rate.retry_after_s(waiting, now_s))

    def _check_deadline(self, wanted: Wanted, deadline_s: float | None, now_s: float) -> None:
        if deadline_s is None:
            return
        ahead = self.waiting.count_ahead(client=wanted.client, priority=wanted.priority, resumed=False)
        starts_in_s = self._rate.time_for(ahead + 1, now_s) if len(self.waiting) else None
        left_s = deadline_s - now_s
        if starts_in_s is None or starts_in_s <= left_s:
            return
        raise ResourceExhausted(
            f"It would start in about {starts_in_s:.1f} s ({ahead} requests are ahead of it), "
            f"and has {max(0.0, left_s):.1f} s left.",
            reason=DEADLINE_TOO_SHORT,
            metadata={"model": self.model, "starts_in_ms": str(round(1000 * starts_in_s)), "ahead": str(ahead)},
            retry_after_s=self._rate.retry_after_s(ahead + 1, now_s),
        )


def queue_full(model: str, waiting: int, *, retry_after_s: float) -> ResourceExhausted:
    """What one is told who may not wait for a model, as so many do already."""
    return ResourceExhausted(
        f"{waiting} requests wait for the model '{model}' already, as many as may.",
        reason=QUEUE_FULL,
        metadata={"model": model, "waiting": str(waiting)},
        retry_after_s=retry_after_s,
    )


def expired(model: str, waited_s: float) -> DeadlineExceeded:
    """What one is told whose deadline passed while it waited."""
    return DeadlineExceeded(
        f"It waited {waited_s:.1f} s for an endpoint with the model '{model}', until its deadline.",
        reason="DEADLINE_EXCEEDED",
        metadata={"model": model, "queued_ms": str(round(1000 * waited_s))},
    )
