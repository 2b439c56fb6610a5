"""Owns the requests that wait for room, and offers them the endpoints when the fleet changes. Knows no policy.

An offer costs one choice for each request that is placed, and one for each lane that still finds no room, however
many wait.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass

from infermesh_router.admission.drain_rate import DrainRate
from infermesh_router.admission.fair_queue import Ticket
from infermesh_router.admission.grant import Applicant, Grant
from infermesh_router.admission.model_queue import QUEUE_FULL, AdmissionLimits, ModelQueue, expired, queue_full
from infermesh_router.fleet.changes import Changes
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.policy.refusals import ModelNotLoaded, Saturated
from infermesh_runtime.errors import InfermeshError

_GRANTS_A_TURN = 64
_PAUSE_FACTOR = 20
"""A round of offers that placed nothing is followed by a pause of this many times what it took: about 5 % of CPU."""
_LONGEST_PAUSE_S = 0.02
_RETRY_AFTER_LOADING_S = 5.0
"""A guess: how long a load takes is not known before its end."""


@dataclass(slots=True, eq=False)
class _Waiter:
    applicant: Applicant
    granted: asyncio.Future[Grant]


Queue = ModelQueue[_Waiter]


class WaitingRoom:
    """Where requests wait. `place` gives an applicant its grant, or raises what the policy refuses with."""

    def __init__(
        self,
        place: Callable[[Applicant], Grant],
        *,
        changes: Changes,
        limits: Callable[[str], AdmissionLimits],
        metrics: RequestMetrics,
        clock: Callable[[], float],
        absent_s: float,
    ) -> None:
        self._place = place
        self._changes = changes
        self._limits = limits
        self._metrics = metrics
        self._clock = clock
        self._absent_s = absent_s
        self._queues: dict[str, Queue] = {}
        self._rates: dict[str, DrainRate] = {}
        self._loading: Counter[str] = Counter()
        """Requests whose model is being loaded, by model, never 0."""
        self._offered_version = -1
        self._offering: asyncio.Task[None] | None = None

    @property
    def queues(self) -> list[Queue]:
        """The queues in which something waits."""
        return [queue for queue in self._queues.values() if len(queue.waiting)]

    def must_wait(self, applicant: Applicant) -> bool:
        """Whether others with the same needs wait already. Serves those first for whom there is room now."""
        queue = self._queues.get(applicant.call.wanted.model)
        if queue is None:
            return False
        if self._offered_version != self._changes.version and applicant.lane not in queue.waiting.lanes:
            self._offer(queue)
        return applicant.lane in queue.waiting.lanes

    async def wait(self, applicant: Applicant) -> Grant:
        """Its grant, when its turn comes. Raises InfermeshError; cancelling it leaves nothing behind."""
        granted: asyncio.Future[Grant] = asyncio.get_running_loop().create_future()
        applicant.waited = True
        limits = self._limits(applicant.call.wanted.model)
        deadline_s = self.deadline(applicant)
        queue = self._queue_of(applicant.call.wanted.model)
        try:
            ticket = self._enter(queue, _Waiter(applicant, granted), limits, deadline_s)
            try:
                async with asyncio.timeout(None if deadline_s is None else max(0.0, deadline_s - self._clock())):
                    return await granted
            finally:
                queue.leave(ticket)
        except BaseException as error:
            _give_back(granted)
            if isinstance(error, TimeoutError):
                raise self.expire(applicant) from None
            raise
        finally:
            self._forget_if_empty(queue)

    def deadline(self, applicant: Applicant) -> float | None:
        """When it may wait no longer, for room or for its model."""
        return _earliest(applicant, self._limits(applicant.call.wanted.model))

    @contextmanager
    def loading(self, applicant: Applicant) -> Iterator[None]:
        """While its model is loaded. ResourceExhausted (QUEUE_FULL) when as many wait as may, beside the first."""
        model = applicant.call.wanted.model
        waiting = self._loading[model]
        if waiting > self._limits(model).max_waiting and not applicant.resumed:
            self._metrics.shed.labels(QUEUE_FULL).inc()
            raise queue_full(model, waiting, retry_after_s=_RETRY_AFTER_LOADING_S)
        self._loading[model] += 1
        try:
            yield
        finally:
            self._loading[model] -= 1
            if not self._loading[model]:
                del self._loading[model]

    def expire(self, applicant: Applicant) -> InfermeshError:
        """Counts that its deadline passed, and says so."""
        error = expired(applicant.call.wanted.model, self._clock() - applicant.since_s)
        self._metrics.shed.labels(error.reason).inc()
        return error

    def _enter(
        self, queue: Queue, waiter: _Waiter, limits: AdmissionLimits, deadline_s: float | None
    ) -> Ticket[_Waiter]:
        """Raises ResourceExhausted when it is shed."""
        applicant = waiter.applicant
        try:
            ticket, displaced = queue.enter(
                waiter,
                applicant.call.wanted,
                lane=applicant.lane,
                resumed=applicant.resumed,
                deadline_s=deadline_s,
                limits=limits,
                now_s=self._clock(),
            )
        except InfermeshError as refusal:
            self._metrics.shed.labels(refusal.reason).inc()
            raise
        if displaced is not None:
            full = queue.full(self._clock())
            self._metrics.shed.labels(full.reason).inc()
            _refuse(displaced.item, full)
        if self._offering is None:
            self._offering = asyncio.ensure_future(self._keep_offering())
        return ticket

    def _queue_of(self, model: str) -> Queue:
        queue = self._queues.get(model)
        if queue is None:
            queue = self._queues[model] = ModelQueue(model, self._rates.setdefault(model, DrainRate()))
        return queue

    def _forget_if_empty(self, queue: Queue) -> None:
        if len(queue.waiting) or self._queues.get(queue.model) is not queue:
            return
        del self._queues[queue.model]
        if not self._queues and self._offering is not None:
            self._offering.cancel()
            self._offering = None

    async def _keep_offering(self) -> None:
        """Offers what there is to those who wait, after each change, until it is cancelled: nobody waits."""
        while True:
            began_s = self._clock()
            placed = sum([self._offer(queue) for queue in self._queues.values()])
            self._offered_version = version = self._changes.version
            if placed:
                await asyncio.sleep(0)
                continue
            took_s = self._clock() - began_s
            absent = any(queue.absent_since_s for queue in self._queues.values())
            with suppress(TimeoutError):
                async with asyncio.timeout(self._absent_s if absent else None):
                    await self._changes.wait_beyond(version)
            await asyncio.sleep(min(_PAUSE_FACTOR * took_s, _LONGEST_PAUSE_S))

    def _offer(self, queue: Queue) -> int:
        """Places those who are next, as far as there is room; how many were."""
        blocked: set[Hashable] = set()
        placed = 0
        while placed < _GRANTS_A_TURN and (ticket := queue.waiting.head(blocked)) is not None:
            if ticket.item.granted.done():  # cancelled a moment ago
                queue.leave(ticket)
                continue
            try:
                grant = self._place(ticket.item.applicant)
            except Saturated:
                queue.absent_since_s.pop(ticket.lane, None)
                blocked.add(ticket.lane)
            except InfermeshError as refusal:
                self._bear(queue, ticket.lane, refusal)
                blocked.add(ticket.lane)
            else:
                queue.serve(ticket, self._clock())
                ticket.item.granted.set_result(grant)
                placed += 1
        return placed

    def _bear(self, queue: Queue, lane: Hashable, refusal: InfermeshError) -> None:
        """Nothing could serve the lane even if it had room: refuses all who wait in it, unless that may pass soon."""
        since_s = queue.absent_since_s.setdefault(lane, self._clock())
        if not isinstance(refusal, ModelNotLoaded) and self._clock() - since_s < self._absent_s:
            return
        del queue.absent_since_s[lane]
        for ticket in queue.waiting.in_lane(lane):
            queue.leave(ticket)
            _refuse(ticket.item, refusal)


def _earliest(applicant: Applicant, limits: AdmissionLimits) -> float | None:
    """When it may wait no longer."""
    longest_s = None if limits.max_wait_s is None else applicant.since_s + limits.max_wait_s
    return min((time_s for time_s in (applicant.deadline_s, longest_s) if time_s is not None), default=None)


def _refuse(waiter: _Waiter, refusal: InfermeshError) -> None:
    if not waiter.granted.done():
        waiter.granted.set_exception(copy(refusal))  # each task adds its own traceback


def _give_back(granted: asyncio.Future[Grant]) -> None:
    """Ends a grant that came while its request was leaving."""
    if granted.done() and not granted.cancelled() and granted.exception() is None:
        granted.result().release()
