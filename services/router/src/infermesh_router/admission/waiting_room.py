"""Holds calls until an endpoint has room for them, and places them in turn whenever endpoints change.

Placing costs one run of the policy for each call that is placed and one for each lane that still finds no room, however
many wait.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from copy import copy

from infermesh_router.admission.drain_rate import DrainRate
from infermesh_router.admission.grant import Grant
from infermesh_router.admission.model_queue import QUEUE_FULL, AdmissionLimits, ModelQueue, expired, queue_full
from infermesh_router.admission.pending_call import PendingCall
from infermesh_router.admission.waiting_bytes import WaitingBytes
from infermesh_router.fleet.changes import Changes
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.policy.refusals import ModelNotLoaded, Recovering, Saturated
from infermesh_runtime.background.tasks import BackgroundTask, TaskSupervisor
from infermesh_runtime.errors import InfermeshError, Internal, ResourceExhausted

_log = logging.getLogger(__name__)

_GRANTS_A_TURN = 64
_PAUSE_FACTOR = 20
"""After a round that placed nothing comes a pause of this many times its duration, which limits it to 5 % of CPU."""
_LONGEST_PAUSE_S = 0.02
_TELL_S = 5.0
"""How often clients are told that they wait, and how long they wait before that."""
_RETRY_AFTER_LOADING_S = 5.0
"""A guess: nobody knows how long a load takes before it ends."""


class WaitingRoom:
    """Where calls wait. `place` returns a call's grant, or raises the policy's refusal."""

    def __init__(
        self,
        place: Callable[[PendingCall], Grant],
        *,
        changes: Changes,
        limits: Callable[[str], AdmissionLimits],
        metrics: RequestMetrics,
        clock: Callable[[], float],
        absent_s: float,
        tasks: TaskSupervisor | None = None,
        most_bytes: Callable[[], int],
        describe_loading: Callable[[str], str] = lambda _model: "",
    ) -> None:
        """`describe_loading` says how far the load of a model is; "": it is not being loaded."""
        self._place = place
        self._changes = changes
        self._limits = limits
        self._metrics = metrics
        self._clock = clock
        self._absent_s = absent_s
        self._describe_loading = describe_loading
        self._bytes = WaitingBytes(most_bytes)
        self._queues: dict[str, ModelQueue] = {}
        self._granted: dict[PendingCall, asyncio.Future[Grant]] = {}
        """What each call in `wait` waits for."""
        self._rates: dict[str, DrainRate] = {}
        self._loading: Counter[str] = Counter()
        """How many calls wait for each model to be loaded, never 0."""
        self._offered_version = -1
        self._tasks = tasks or TaskSupervisor()
        self._offering: BackgroundTask | None = None

    @property
    def queues(self) -> list[ModelQueue]:
        """The queues in which something waits."""
        return [queue for queue in self._queues.values() if len(queue.waiting)]

    def must_wait(self, pending: PendingCall) -> bool:
        """Whether others of its lane wait already. Places those first for whom there is room now."""
        queue = self._queues.get(pending.model)
        if queue is None:
            return False
        if self._offered_version != self._changes.version and pending.lane not in queue.waiting.lanes:
            self._offer(queue)
        return pending.lane in queue.waiting.lanes

    def anyone_waits(self, pending: PendingCall) -> bool:
        """Whether calls wait for its model."""
        queue = self._queues.get(pending.model)
        return queue is not None and len(queue.waiting) > 0

    async def wait(self, pending: PendingCall) -> Grant:
        """The call's grant, once its turn comes. Raises InfermeshError. Cancelling it leaves nothing behind."""
        granted: asyncio.Future[Grant] = asyncio.get_running_loop().create_future()
        pending.waited = True
        expires_s = self.expires_s(pending)
        queue = self._queue_of(pending.model)
        self._granted[pending] = granted
        try:
            with self._held(pending):
                self._enter(queue, pending)
                try:
                    async with asyncio.timeout(None if expires_s is None else max(0.0, expires_s - self._clock())):
                        await self._tell_until(granted, pending)
                        return await granted
                finally:
                    queue.leave(pending)
        except BaseException as error:
            _give_back(granted)
            if isinstance(error, TimeoutError):
                raise self.expire(pending) from None
            raise
        finally:
            del self._granted[pending]
            self._forget_if_empty(queue)

    async def _tell_until(self, granted: asyncio.Future[Grant], pending: PendingCall) -> None:
        """Tells the call's client, if it is to be told, what the call waits for until it is granted."""
        if pending.telling is None:
            return

        async def settled(timeout_s: float) -> bool:
            await asyncio.wait((granted,), timeout=timeout_s)
            return granted.done()

        def say(waited_s: float) -> str:
            loading, others = self._describe_loading(pending.model), len(self._queue_of(pending.model).waiting) - 1
            queued = f"waiting, {others} more wait for {pending.model}" if others > 0 else "waiting"
            return loading or (queued if waited_s >= _TELL_S else "")

        await pending.telling.until(settled, say, every_s=_TELL_S)

    def expires_s(self, pending: PendingCall) -> float | None:
        """When the call may wait no longer, for room or for its model."""
        return pending.expires_s(self._limits(pending.model).max_wait_s)

    @contextmanager
    def loading(self, pending: PendingCall) -> Iterator[None]:
        """Counts the call as waiting for its model to load, while the block runs.

        Raises ResourceExhausted (QUEUE_FULL) if, besides the first, as many wait as may.
        """
        model = pending.model
        waiting = self._loading[model]
        if waiting > self._limits(model).max_waiting and not pending.keeps_place:
            self._metrics.shed.labels(QUEUE_FULL).inc()
            raise queue_full(model, waiting, retry_after_s=_RETRY_AFTER_LOADING_S)
        self._loading[model] += 1
        try:
            with self._held(pending):
                yield
        finally:
            self._loading[model] -= 1
            if not self._loading[model]:
                del self._loading[model]

    @contextmanager
    def _held(self, pending: PendingCall) -> Iterator[None]:
        """Counts the call's memory as waiting. Raises ResourceExhausted (QUEUE_FULL) if the queues hold too much."""
        with ExitStack() as stack:
            try:
                stack.enter_context(self._bytes.held(len(pending.call.body), must=pending.keeps_place))
            except ResourceExhausted as refusal:
                self._metrics.shed.labels(refusal.reason).inc()
                raise
            yield

    def expire(self, pending: PendingCall) -> InfermeshError:
        """Counts a call whose time to wait is over, and returns its error."""
        error = expired(pending.model, self._clock() - pending.since_s)
        self._metrics.shed.labels(error.reason).inc()
        return error

    def _enter(self, queue: ModelQueue, pending: PendingCall) -> None:
        """Raises ResourceExhausted when the call is shed."""
        try:
            displaced = queue.enter(pending, self._limits(pending.model), self._clock())
        except InfermeshError as refusal:
            self._metrics.shed.labels(refusal.reason).inc()
            raise
        if displaced is not None:
            full = queue.full(self._clock())
            self._metrics.shed.labels(full.reason).inc()
            self._refuse(displaced, full)
        if self._offering is None:
            self._offering = self._tasks.start("waiting room", self._keep_offering, essential=True)

    def _queue_of(self, model: str) -> ModelQueue:
        queue = self._queues.get(model)
        if queue is None:
            queue = self._queues[model] = ModelQueue(model, self._rates.setdefault(model, DrainRate()))
        return queue

    def _forget_if_empty(self, queue: ModelQueue) -> None:
        if len(queue.waiting) or self._queues.get(queue.model) is not queue:
            return
        del self._queues[queue.model]
        if not self._queues and self._offering is not None:
            self._offering.stop()
            self._offering = None

    async def _keep_offering(self) -> None:
        """Places waiting calls after each change. Cancelled when no call waits any more."""
        while True:
            began_s = self._clock()
            placed = sum([self._offer(queue) for queue in self._queues.values()])
            self._offered_version = version = self._changes.version
            if placed:
                await asyncio.sleep(0)
                continue
            took_s = self._clock() - began_s
            with suppress(TimeoutError):
                async with asyncio.timeout(self._absence_left_s()):
                    await self._changes.wait_beyond(version)
            await asyncio.sleep(min(_PAUSE_FACTOR * took_s, _LONGEST_PAUSE_S))

    def _absence_left_s(self) -> float | None:
        """Time until the first call has waited long enough for an endpoint to appear; None if none waits for that."""
        ends = [end_s for queue in self._queues.values() for end_s in queue.absent_until_s.values()]
        return max(0.0, min(ends) - self._clock()) if ends else None

    def _offer(self, queue: ModelQueue) -> int:
        """Places the next calls as long as there is room; returns how many."""
        blocked: set[Hashable] = set()
        placed = 0
        while placed < _GRANTS_A_TURN and (pending := queue.waiting.head(blocked)) is not None:
            granted = self._granted[pending]
            if granted.done():  # cancelled a moment ago
                queue.leave(pending)
                continue
            try:
                grant = self._place(pending)
            except (Saturated, Recovering):
                queue.note_present(pending.lane)
                blocked.add(pending.lane)
            except InfermeshError as refusal:
                self._bear(queue, pending.lane, refusal)
                blocked.add(pending.lane)
            except Exception:
                _log.exception("a waiting call could not be placed")
                queue.leave(pending)  # it must not hold up the others again and again
                self._refuse(pending, Internal("Internal error. The router's log has details."))
            else:
                queue.serve(pending, self._clock())
                granted.set_result(grant)
                placed += 1
        return placed

    def _bear(self, queue: ModelQueue, lane: Hashable, refusal: InfermeshError) -> None:
        """No endpoint could serve the lane even with room: refuses those in it who have waited long enough for one."""
        now_s = self._clock()
        since_s = queue.absent_since_s.setdefault(lane, now_s)
        staying_until_s = []
        for pending in queue.waiting.in_lane(lane):
            until_s = since_s + self._absent_s if pending.give_up_s is None else pending.give_up_s
            if now_s < until_s and not isinstance(refusal, ModelNotLoaded):
                staying_until_s.append(until_s)
                continue
            queue.leave(pending)
            self._refuse(pending, refusal)
        if staying_until_s:
            queue.absent_until_s[lane] = min(staying_until_s)
        else:
            queue.note_present(lane)

    def _refuse(self, pending: PendingCall, refusal: InfermeshError) -> None:
        granted = self._granted[pending]
        if not granted.done():
            granted.set_exception(copy(refusal))  # each task adds its own traceback


def _give_back(granted: asyncio.Future[Grant]) -> None:
    """Releases a grant that came while its call was leaving."""
    if granted.done() and not granted.cancelled() and granted.exception() is None:
        granted.result().release()
