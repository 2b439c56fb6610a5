"""Owns when a request may go to an endpoint: at once, when its turn comes, or never. Knows no stream."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from infermesh.admin.v1 import admin_pb2
from infermesh_router.admission.grant import Applicant, Grant
from infermesh_router.admission.model_queue import AdmissionLimits
from infermesh_router.admission.sessions import Sessions
from infermesh_router.admission.waiting_room import WaitingRoom
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.policy.choice import Choice
from infermesh_router.policy.refusals import ModelNotLoaded, Saturated
from infermesh_router.policy.snapshot import EndpointSnapshot, Wanted
from infermesh_router.requests.call import Call

__all__ = ["Admission", "AdmissionLimits", "Choose", "Grant", "Loader"]

ABSENT_S = 5.0
"""How long requests that wait outlast that nothing could serve them: endpoints restart and reconnect within it."""
_MOST_LOADS = 3


class Choose(Protocol):
    """The policy, as `policy.choose`."""

    def __call__(self, endpoints: Sequence[EndpointSnapshot], wanted: Wanted, *, turn: int) -> Choice: ...


class Loader(Protocol):
    """What makes a model ready, as `placement.placer.Placer`."""

    async def ensure(self, wanted: Wanted) -> None:
        """Returns when the model is ready somewhere. Raises InfermeshError. Cancelling it leaves the load going on."""


class Admission:
    """Lets requests go to endpoints, one Grant each."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        choose: Choose,
        metrics: RequestMetrics,
        sessions: Sessions,
        loader: Loader | None = None,
        limits: Callable[[str], AdmissionLimits] = lambda _model: AdmissionLimits(),
        clock: Callable[[], float] = time.perf_counter,
        absent_s: float = ABSENT_S,
    ) -> None:
        self._fleet = fleet
        self._choose = choose
        self._metrics = metrics
        self._sessions = sessions
        self._loader = loader
        self._clock = clock
        self._turn = 0
        self._room = WaitingRoom(
            self._place, changes=fleet.changes, limits=limits, metrics=metrics, clock=clock, absent_s=absent_s
        )

    @property
    def waiting(self) -> int:
        """Requests that wait, of all models."""
        return sum(len(queue.waiting) for queue in self._room.queues)

    def queues(self) -> list[admin_pb2.ModelQueue]:
        """The queues in which something waits."""
        now_s = self._clock()
        return [
            admin_pb2.ModelQueue(
                model=queue.model,
                waiting=len(queue.waiting),
                oldest_ms=round(1000 * (now_s - oldest.item.applicant.since_s)),
            )
            for queue in self._room.queues
            if (oldest := queue.waiting.oldest) is not None
        ]

    async def admit(
        self,
        call: Call,
        *,
        deadline_s: float | None,
        tried: frozenset[str] = frozenset(),
        resumed: bool = False,
    ) -> Grant:
        """Leave to send the call, credited to its endpoint until the grant is left.

        `deadline_s` is absolute, by the admission's clock (time.perf_counter); `tried` are endpoints it failed on;
        `resumed` marks a stream that goes on after a failure and passes everything that waits. Raises InfermeshError:
        what the policy refuses with, ResourceExhausted (QUEUE_FULL, DEADLINE_TOO_SHORT) when it is shed, and
        DeadlineExceeded when its deadline passes while it waits. Cancelling it leaves nothing behind.
        """
        applicant = Applicant(call, tried, resumed, self._clock(), deadline_s)
        loads = 0
        while True:
            try:
                return await self._place_or_wait(applicant)
            except ModelNotLoaded:
                if loads == _MOST_LOADS or self._loader is None:
                    raise
            loads += 1
            await self._load(self._loader, applicant)

    async def _place_or_wait(self, applicant: Applicant) -> Grant:
        if not self._room.must_wait(applicant):
            try:
                return self._place(applicant)
            except Saturated:
                pass
        return await self._room.wait(applicant)

    async def _load(self, loader: Loader, applicant: Applicant) -> None:
        began_s = self._clock()
        applicant.waited = True
        deadline_s = self._room.deadline(applicant)
        timeout_s = None if deadline_s is None else max(0.0, deadline_s - began_s)
        try:
            with self._room.loading(applicant):
                async with asyncio.timeout(timeout_s):
                    await loader.ensure(replace(applicant.call.wanted, tried=applicant.tried))
        except TimeoutError:
            raise self._room.expire(applicant) from None
        finally:
            applicant.loading_s += self._clock() - began_s

    def _place(self, applicant: Applicant) -> Grant:
        """Raises what the policy refuses with."""
        wanted = applicant.call.wanted
        session_endpoint = self._sessions.find(applicant.call.session_id)
        if session_endpoint or applicant.tried:
            wanted = replace(wanted, tried=applicant.tried, session_endpoint=session_endpoint)
        self._turn += 1
        choice = self._choose(self._fleet.snapshots, wanted, turn=self._turn)
        endpoint = self._fleet.get(choice.address)
        lease = endpoint.acquire(prompt_tokens=choice.prompt_tokens, sequences=wanted.sequences)
        queued_s = self._clock() - applicant.since_s if applicant.waited else 0.0
        self._metrics.chosen(choice.address, choice.reason)
        self._metrics.queue_s.labels(wanted.model).observe(queued_s)
        return Grant(endpoint, choice, queued_s, applicant.loading_s, lease)
