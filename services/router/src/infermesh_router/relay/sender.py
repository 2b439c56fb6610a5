"""Sends a call whose answer is a stream to an endpoint, and also to a second one if the first is slow."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass

from infermesh_router.admission.admission import Admission
from infermesh_router.admission.grant import Grant
from infermesh_router.admission.sessions import Sessions
from infermesh_router.journal.journal import Journal
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.relay.attempt import Attempt
from infermesh_router.relay.attempts import Attempts
from infermesh_router.relay.options import RelayOptions
from infermesh_router.relay.poison import Poison
from infermesh_router.relay.retrying.hedge import FirstTokenDelays, first_of
from infermesh_router.relay.retrying.lost_endpoints import LostEndpoints
from infermesh_router.relay.retrying.retry_budget import RetryBudget
from infermesh_router.requests.call import Call
from infermesh_router.requests.telling import Telling
from infermesh_runtime.background.tasks import TaskSupervisor


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayParts:
    """What all relayed calls share."""

    admission: Admission
    attempts: Attempts
    budget: RetryBudget
    delays: FirstTokenDelays
    metrics: RequestMetrics
    sessions: Sessions
    options: RelayOptions
    poison: Poison
    could_serve: Callable[[Call, frozenset[str]], bool]
    """Whether an endpoint other than those could serve the call."""
    tasks: TaskSupervisor
    clock: Callable[[], float]
    journal: Journal


class Sender:
    """Sends one call, as often as needed. `admit` gets a grant; `send_first` or `send` uses it."""

    def __init__(
        self,
        parts: RelayParts,
        call: Call,
        *,
        deadline_s: float | None,
        since_s: float,
        telling: Telling | None = None,
    ) -> None:
        self._parts = parts
        self._call = call
        self.pending = parts.admission.arrive(call, deadline_s=deadline_s, telling=telling)
        """The call as it waits for endpoints."""
        self._deadline_s = deadline_s
        self._since_s = since_s

    async def admit(self, lost: LostEndpoints) -> Grant:
        """Permission to send the call from its beginning, in its turn. Raises InfermeshError.

        `lost` are the endpoints on which it failed.
        """
        return await self._parts.admission.admit(self.pending, lost.avoid(self.pending))

    async def admit_again(self, avoided: Mapping[str, float], give_up_s: float) -> Grant:
        """Permission to continue the call's stream, before all that wait. Raises InfermeshError.

        `avoided` are endpoints that it must not go to yet, each with the time until which. Until `give_up_s` it also
        waits while no endpoint could serve it.
        """
        self.pending.give_up_s = give_up_s
        self.pending.avoided_until_s = avoided
        return await self._parts.admission.admit(self.pending, frozenset(avoided))

    async def send_first(self, grant: Grant) -> Attempt:
        """Sends the call from its beginning, hedged if the options say so. Raises InfermeshError."""
        return await (self._send_hedged(grant) if self._parts.options.hedges else self._send_timed(grant))

    async def send(self, grant: Grant, body: bytes, *, failed: frozenset[str] = frozenset()) -> Attempt:
        """Sends a body to the grant's endpoint. `failed`: where the stream failed before. Raises InfermeshError."""
        parts, call, tried = self._parts, self._call, failed | {grant.endpoint.address}
        timeout_s = None if self._deadline_s is None else max(0.0, self._deadline_s - parts.clock())
        return await parts.attempts.open(
            grant, call.method, body, timeout_s=timeout_s, may_move=lambda: parts.could_serve(call, tried)
        )

    async def _send_timed(self, grant: Grant) -> Attempt:
        """Sends the call, and measures what the router itself added to its latency."""
        address = grant.endpoint.address
        overhead_s = self._parts.clock() - self._since_s - grant.queued_s
        self._parts.metrics.sent(address, queued_s=grant.queued_s, overhead_s=overhead_s)
        attempt = await self.send(grant, self._call.body_for(address))
        attempt.overhead_s = overhead_s
        return attempt

    async def _send_hedged(self, grant: Grant) -> Attempt:
        """Sends the call, and also to a second endpoint if the first one is slow; the faster one answers.

        The second one must have room at once: a hedge that waits would take a place from somebody who has none.
        """
        parts, model = self._parts, self._call.wanted.model
        tried = frozenset({grant.endpoint.address})
        sent_s = parts.clock()

        def send_again() -> Awaitable[Attempt] | None:
            if not parts.budget.balance >= 1:
                return None
            second = parts.admission.admit_now(self.pending, tried)
            if second is None:
                return None
            parts.budget.withdraw()
            parts.metrics.hedges.inc()
            hedges.append(second)
            return self._send_timed(second)

        hedges: list[Grant] = []
        delay_s = parts.options.hedge_after_s
        if parts.options.hedge_when_slow:
            delay_s = min(delay_s, parts.delays.slow_s(model))
        try:
            attempt = await first_of(
                self._send_timed(grant),
                send_again,
                delay_s=delay_s,
                discard=lambda loser: parts.attempts.close(loser, None, complete=False),
            )
        except BaseException:
            for each in (grant, *hedges):  # a task that is cancelled before it runs releases nothing
                each.release()
            raise
        parts.delays.note(model, parts.clock() - sent_s)
        return attempt
