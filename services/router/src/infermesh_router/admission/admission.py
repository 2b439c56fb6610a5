"""Decides when a request may go to an endpoint: at once, when its turn comes, or never."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

from infermesh.admin.v1 import admin_pb2
from infermesh_router.admission.grant import Grant
from infermesh_router.admission.model_queue import AdmissionLimits
from infermesh_router.admission.pending_call import PendingCall
from infermesh_router.admission.sessions import Sessions
from infermesh_router.admission.waiting_room import WaitingRoom
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.fleet.reports.loading import describe_loading
from infermesh_router.journal.journal import Journal
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.policy.choice import Choice
from infermesh_router.policy.prefix.session_hash import hash_session
from infermesh_router.policy.refusals import ModelNotLoaded, Recovering, Saturated
from infermesh_router.policy.snapshot import EndpointSnapshot, Wanted, replace_wanted
from infermesh_router.requests.call import Call
from infermesh_router.requests.telling import Telling
from infermesh_runtime.background.tasks import TaskSupervisor
from infermesh_runtime.errors import InfermeshError
from infermesh_runtime.logs import REQUEST_ID
from infermesh_runtime.machine import memory_total_bytes

ABSENT_S = 5.0
"""How long waiting requests are kept when no endpoint can serve them: restarts and reconnects take less."""
MEMORY_SHARE = 4
"""By default waiting calls may hold the memory of this process divided by this."""
_MOST_LOADS = 3


class Choose(Protocol):
    """The policy, like `policy.choice.choose`."""

    def __call__(self, endpoints: Sequence[EndpointSnapshot], wanted: Wanted, *, turn: int) -> Choice: ...


class Loader(Protocol):
    """What makes a model ready, as `placement.placer.Placer`."""

    async def ensure(self, wanted: Wanted, telling: Telling | None = None) -> None:
        """Returns once the model is ready somewhere; meanwhile `telling` tells the client how far the load is.

        Raises InfermeshError. Cancelling it does not stop the load.
        """


_EARLY_S = 0.005
"""A timer may fire this much early by the clock."""


class Admission:
    """Gives requests permission to go to an endpoint: one Grant each."""

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
        tasks: TaskSupervisor | None = None,
        journal: Journal | None = None,
        most_bytes: Callable[[], int] = lambda: memory_total_bytes() // MEMORY_SHARE,
        routers: Callable[[], int] = lambda: 1,
    ) -> None:
        """`most_bytes`: the most memory that waiting calls may hold now; a quarter of what this process may use.

        `routers`: how many serve the same clients side by side now; another one may have served a session before.
        """
        self._routers = routers
        self._tasks = tasks or TaskSupervisor()
        self._journal = journal or Journal()
        self._fleet = fleet
        self._choose = choose
        self._metrics = metrics
        self._sessions = sessions
        self._loader = loader
        self._clock = clock
        self._turn = 0
        self._arrivals = 0
        self._room = WaitingRoom(
            self._place,
            changes=fleet.changes,
            limits=limits,
            metrics=metrics,
            clock=clock,
            absent_s=absent_s,
            tasks=self._tasks,
            most_bytes=most_bytes,
            describe_loading=lambda model: describe_loading(fleet.endpoints, model),
        )

    def arrive(
        self,
        call: Call,
        *,
        deadline_s: float | None,
        give_up_s: float | None = None,
        telling: Telling | None = None,
    ) -> PendingCall:
        """A call that needs endpoints from now on. Give it to `admit`, again if its grant serves it nothing.

        `deadline_s` is absolute, by the admission's clock (time.perf_counter). `give_up_s` marks a stream that
        continues after a failure, and says until when it waits for an endpoint to appear; it goes before all that wait.
        `telling` tells its client what it waits for.
        """
        self._arrivals += 1
        arrived = PendingCall(call, self._arrivals, self._clock(), deadline_s, give_up_s, telling=telling)
        arrived.request_id = REQUEST_ID.get()
        return arrived

    def wake(self) -> None:
        """Lets waiting calls look for an endpoint again: time has changed which ones they may go to."""
        self._fleet.changes.notify()

    def wake_later(self, delay_s: float) -> None:
        """Wakes them when that time has passed."""
        self._tasks.call_later("retry timer", delay_s + _EARLY_S, self.wake)

    @property
    def waiting(self) -> int:
        """How many requests wait, for all models together."""
        return sum(len(queue.waiting) for queue in self._room.queues)

    def queues(self) -> list[admin_pb2.ModelQueue]:
        """The queues in which requests wait."""
        now_s = self._clock()
        return [
            admin_pb2.ModelQueue(
                model=queue.model,
                waiting=len(queue.waiting),
                oldest_ms=round(1000 * (now_s - oldest.since_s)),
            )
            for queue in self._room.queues
            if (oldest := queue.waiting.oldest) is not None
        ]

    async def admit(self, pending: PendingCall, tried: frozenset[str] = frozenset()) -> Grant:
        """Permission to send the call; it counts as load on its endpoint until the grant is released.

        `tried` are endpoints that it must not go to now, because it failed on them. A call that had a grant before
        gets its old place in the queue.

        Raises InfermeshError: the policy's refusal; ResourceExhausted (QUEUE_FULL, DEADLINE_TOO_SHORT) when the call is
        shed; DeadlineExceeded when its deadline passes while it waits. Cancelling it leaves nothing behind.
        """
        pending.tried = tried
        loads = 0
        while True:
            try:
                grant = await self._place_or_wait(pending)
            except ModelNotLoaded:
                if loads == _MOST_LOADS or self._loader is None:
                    raise
            else:
                pending.came_back = True  # if it is admitted again
                return grant
            loads += 1
            await self._load(self._loader, pending)

    def admit_now(self, pending: PendingCall, tried: frozenset[str]) -> Grant | None:
        """A grant if an endpoint outside `tried` has room that nobody waits for, else None. Never waits."""
        extra = PendingCall(pending.call, pending.arrival, self._clock(), pending.deadline_s, tried=tried)
        extra.request_id = pending.request_id
        if self._room.anyone_waits(extra):
            return None
        try:
            return self._place(extra)
        except InfermeshError:
            return None

    async def _place_or_wait(self, pending: PendingCall) -> Grant:
        if not self._room.must_wait(pending):
            try:
                return self._place(pending)
            except (Saturated, Recovering):
                pass
            except ModelNotLoaded:
                raise
            except InfermeshError:
                if not self._may_wait(pending):
                    raise
        return await self._room.wait(pending)

    def _may_wait(self, pending: PendingCall) -> bool:
        """Whether the call waits for an endpoint although none could serve it, because it has just lost one."""
        if pending.give_up_s is None:
            return pending.lost_endpoint
        return self._clock() < pending.give_up_s

    async def _load(self, loader: Loader, pending: PendingCall) -> None:
        began_s = self._clock()
        pending.waited = True
        expires_s = self._room.expires_s(pending)
        timeout_s = None if expires_s is None else max(0.0, expires_s - began_s)
        try:
            with self._room.loading(pending):
                async with asyncio.timeout(timeout_s):
                    await loader.ensure(replace(pending.call.wanted, tried=pending.tried), pending.telling)
        except TimeoutError:
            raise self._room.expire(pending) from None
        finally:
            pending.loading_s += self._clock() - began_s

    def _place(self, pending: PendingCall) -> Grant:
        """Lets the policy choose, and takes the place. Raises the policy's refusal."""
        wanted = pending.call.wanted
        session_endpoint = self._sessions.find(pending.call.session_id)
        session_key = hash_session(pending.call.session_id) if self._routers() > 1 and not session_endpoint else ()
        if session_endpoint or session_key or pending.tried:
            wanted = replace_wanted(
                wanted,
                tried=pending.tried_at(self._clock()),
                session_endpoint=session_endpoint,
                session_key=session_key,
            )
        self._turn += 1
        choice = self._choose(self._fleet.snapshots, wanted, turn=self._turn)
        endpoint = self._fleet.get(choice.address)
        lease = endpoint.acquire(wanted.model, prompt_tokens=choice.prompt_tokens, sequences=wanted.sequences)
        queued_s = self._clock() - pending.since_s if pending.waited else 0.0
        self._metrics.chosen(choice.address, choice.reason)
        self._journal.chosen(pending.request_id, wanted, choice)
        self._metrics.queue_s.labels(wanted.model).observe(queued_s)
        return Grant(endpoint, choice.reason, queued_s, pending.loading_s, lease, choice)
