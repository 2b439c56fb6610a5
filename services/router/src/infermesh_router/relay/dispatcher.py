"""Runs every call from its arrival to its last message, and holds what calls share."""

import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from functools import partial

import grpc

from infermesh_router.admission.admission import Admission, Choose
from infermesh_router.admission.gate import Gate
from infermesh_router.admission.grant import Grant
from infermesh_router.admission.sessions import Sessions
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.fleet.faults import DRAINED, to_error
from infermesh_router.fleet.front_check import front_answers
from infermesh_router.journal.journal import Journal
from infermesh_router.journal.receipts import Receipts
from infermesh_router.journal.story import Story
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.policy.refusals import Recovering
from infermesh_router.relay.attempt import Attempt
from infermesh_router.relay.attempts import Attempts, request_metadata, tell_breaker, tell_if_sent_back
from infermesh_router.relay.options import RelayOptions
from infermesh_router.relay.poison import Poison, Suspicion
from infermesh_router.relay.relay import Relay
from infermesh_router.relay.retrying.hedge import FirstTokenDelays
from infermesh_router.relay.retrying.lost_endpoints import LostEndpoints
from infermesh_router.relay.retrying.retries import Retries
from infermesh_router.relay.retrying.retry_budget import RetryBudget
from infermesh_router.relay.sender import RelayParts
from infermesh_router.relay.stall_watch import StallWatch
from infermesh_router.relay.streams.event import Event, StreamEvent
from infermesh_router.relay.streams.tail import Tail
from infermesh_router.relay.telling_story import tell_answered, tell_failed, tell_usage, telling_wait
from infermesh_router.requests.call import Call
from infermesh_router.requests.telling import Telling
from infermesh_runtime.background.tasks import TaskSupervisor
from infermesh_runtime.errors import Cancelled, Code, InfermeshError, Internal, ResourceExhausted, Unavailable
from infermesh_runtime.logs import REQUEST_ID


class Dispatcher:
    """Sends calls to endpoints. Its methods raise only InfermeshError and asyncio.CancelledError."""

    def __init__(
        self,
        admission: Admission,
        *,
        fleet: Fleet,
        choose: Choose,
        metrics: RequestMetrics,
        sessions: Sessions,
        gate: Gate | None = None,
        options: RelayOptions | None = None,
        resolve: Callable[[Call], Call] = lambda call: call,
        check: Callable[[Call], None] = lambda _call: None,
        clock: Callable[[], float] = time.perf_counter,
        tasks: TaskSupervisor | None = None,
        journal: Journal | None = None,
        receipts: Receipts | None = None,
    ) -> None:
        """`resolve` gives a call the model that it means, for an alias or for no name.

        `check` raises InvalidArgument for a call that no endpoint would take; such a call is counted.
        """
        options, tasks = options or RelayOptions(), tasks or TaskSupervisor()
        self._resolve = resolve
        self._check = check
        self._fleet = fleet
        self._gate = gate or Gate(fleet.changes)
        self._choose = choose
        self._admission = admission
        self._metrics = metrics
        self._options = options
        self._clock = clock
        self._receipts = Receipts(most=0) if receipts is None else receipts  # an empty one is false
        self._budget = RetryBudget(ratio=options.retry_ratio)
        watch = StallWatch(options.patience, tasks)
        self._attempts = Attempts(connect_s=options.patience.connect_s, on_open=watch.add, on_close=watch.remove)
        self._parts = self._relay_parts(sessions, journal or Journal(), tasks)

    def _relay_parts(self, sessions: Sessions, journal: Journal, tasks: TaskSupervisor) -> RelayParts:
        """What all relays of this dispatcher share."""
        return RelayParts(
            admission=self._admission,
            attempts=self._attempts,
            budget=self._budget,
            delays=FirstTokenDelays(),
            metrics=self._metrics,
            sessions=sessions,
            options=self._options,
            poison=Poison(
                refuse_s=self._options.poison_s,
                metrics=self._metrics,
                clock=self._clock,
                front_answers=partial(front_answers, self._fleet),
            ),
            could_serve=self._could_serve,
            tasks=tasks,
            clock=self._clock,
            journal=journal,
        )

    def generate(
        self,
        call: Call,
        timeout_s: float | None,
        *,
        since_s: float,
        telling: Telling | None = None,
        ignored: Sequence[str] = (),
        tail: Tail | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[Event]]:
        """The events of a Generate call, `started` first; entering waits for the first token, leaving cancels the rest.

        `since_s` is when the request arrived, by the dispatcher's clock (time.perf_counter). `telling` tells the client
        what the call waits for, in the task that waits. `ignored` are fields of its body that have no effect. `tail` is
        told when all the rest of the answer has come.
        """
        return self._stream(call, timeout_s, since_s=since_s, telling=telling, ignored=ignored, tail=tail)

    def speech(
        self, call: Call, timeout_s: float | None, *, since_s: float, ignored: Sequence[str] = ()
    ) -> AbstractAsyncContextManager[AsyncIterator[StreamEvent]]:
        """The events of a Transcribe or Speak call, likewise; entering waits for the first segment or piece."""
        return self._stream(call, timeout_s, since_s=since_s, ignored=ignored)

    @asynccontextmanager
    async def _stream(
        self,
        call: Call,
        timeout_s: float | None,
        *,
        since_s: float,
        telling: Telling | None = None,
        ignored: Sequence[str] = (),
        tail: Tail | None = None,
    ) -> AsyncIterator[AsyncIterator[StreamEvent]]:
        call = self._resolve(call)
        story = Story(REQUEST_ID.get(), since_s=since_s, ignored=ignored, clock=self._clock)
        deadline_s = self._deadline(timeout_s)
        relay = Relay(self._parts, call, deadline_s=deadline_s, since_s=since_s, story=story, telling=telling)
        with self._counted(call, story) as label:
            self._check(call)
            begun = await relay.begin()
            _, opening = begun[0]
            model = opening.started.model
            label(model)
            events = relay.events(*begun, tail=tail)
            try:
                yield events
            finally:
                relay.close()
                await events.aclose()
            self._metrics.request_s.labels(model).observe(self._clock() - since_s)

    async def send(self, call: Call, timeout_s: float | None, *, since_s: float, ignored: Sequence[str] = ()) -> bytes:
        """The answer to a unary call, as the bytes that came. `ignored`: fields of its body that have no effect."""
        call, deadline_s = self._resolve(call), self._deadline(timeout_s)
        suspicion = Suspicion(self._parts.poison, call)
        lost = LostEndpoints(self._admission.wake_later, clock=self._clock)
        retries = Retries(self._options.attempts, self._budget, self._metrics, lost)
        pending = self._admission.arrive(call, deadline_s=deadline_s)
        story = Story(REQUEST_ID.get(), since_s=since_s, ignored=ignored, clock=self._clock)
        with self._counted(call, story):
            self._check(call)
            await suspicion.check()
            while True:
                try:
                    with telling_wait(story, pending, self._clock):
                        grant = await self._admission.admit(pending, lost.avoid(pending))
                except InfermeshError as refusal:
                    raise retries.last or refusal from None
                with grant:
                    address, overhead_s = grant.endpoint.address, self._clock() - since_s - grant.queued_s
                    self._metrics.sent(address, queued_s=grant.queued_s, overhead_s=overhead_s)
                    try:
                        answer = await _send(grant, call, self._remaining(deadline_s))
                    except InfermeshError as error:
                        failure = error
                    else:
                        suspicion.finished(tokens=1)
                        tell_answered(story, grant, overhead_s)
                        tell_usage(story, call.method, answer)
                        return answer
                tell_failed(story, address, failure)
                await suspicion.note(address, failure)
                retries.note(address, failure)

    def move_streams(self, address: str) -> int:
        """Moves streams off an endpoint; returns how many. Those that no other endpoint could continue stay."""
        error = Unavailable(f"Endpoint {address} is being drained.", reason=DRAINED)
        return sum(_may_move(attempt) and attempt.abandon(error) for attempt in self._attempts.on(address))

    def _could_serve(self, call: Call, tried: frozenset[str]) -> bool:
        """Whether an endpoint outside `tried` could serve the call, now or once it has room."""
        try:
            self._choose(self._fleet.snapshots, replace(call.wanted, tried=tried), turn=0)
        except (ResourceExhausted, Recovering):
            return True
        except InfermeshError:
            return False
        return True

    @contextmanager
    def _counted(self, call: Call, story: Story) -> Iterator[Callable[[str], None]]:
        """Counts the request by model and status, and keeps its receipt.

        The block reports the model through the function it is given.
        """
        model, code, reason = "", Code.OK, ""

        def label(name: str) -> None:
            nonlocal model
            model = name

        try:
            with self._gate.entered():
                yield label
        except InfermeshError as error:
            code, reason = error.code, error.reason
            raise
        except Exception as error:
            # gRPC raises its InternalError when the client of a write is gone; everything else is our fault
            code = Cancelled.code if isinstance(error, grpc.aio.InternalError) else Internal.code
            raise
        except BaseException:  # cancelled, or left in the middle
            code = Cancelled.code
            raise
        finally:
            self._metrics.requests.labels(model or self._known(call.wanted.model), code.name).inc()
            story.close(call.wanted, call=call.kind, asked=call.asked, status=code.name, error=reason)
            self._receipts.keep(story)

    def _known(self, model: str) -> str:
        """The model's name if an endpoint has it or could load it, else "", so that clients cannot add time series."""
        endpoints = self._fleet.snapshots
        known = endpoints.serving(model).any() or any(model in endpoint.available for endpoint in endpoints)
        return model if known else ""

    def _deadline(self, timeout_s: float | None) -> float | None:
        return None if timeout_s is None else self._clock() + timeout_s

    def _remaining(self, deadline_s: float | None) -> float | None:
        return None if deadline_s is None else max(0.0, deadline_s - self._clock())


def _may_move(attempt: Attempt) -> bool:
    return attempt.abandoned is None and attempt.may_move()


async def _send(grant: Grant, call: Call, timeout_s: float | None) -> bytes:
    """Sends a unary call and reports the outcome to the endpoint's breaker. Raises InfermeshError."""
    endpoint = grant.endpoint
    probe = endpoint.breaker.enter()
    stub = endpoint.channel.unary_unary(call.method)
    try:
        answer = await stub(call.body_for(endpoint.address), timeout=timeout_s, metadata=request_metadata())
    except grpc.aio.AioRpcError as error:
        failure = to_error(error)
        tell_breaker(endpoint, failure, probe=probe)
        tell_if_sent_back(grant, failure)
        raise failure from error
    except BaseException:
        tell_breaker(endpoint, None, probe=probe, complete=False)
        raise
    tell_breaker(endpoint, None, probe=probe)
    return bytes(answer)
