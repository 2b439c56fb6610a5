"""Owns one Generate call until its last event: retries before the first token, hedge, failover in its middle.

Hands events on as they came; knows no OpenAI, no queue and nothing of what the policy weighs.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.admission.admission import Admission
from infermesh_router.admission.grant import Grant
from infermesh_router.admission.sessions import Sessions
from infermesh_router.fleet.faults import Verdict, judge, judge_running, with_retry_after
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.relay.attempt import Attempt, Attempts
from infermesh_router.relay.dispatch_options import DispatchOptions
from infermesh_router.relay.failover import Delivered
from infermesh_router.relay.hedge import FirstTokenDelays, first_of
from infermesh_router.relay.retries import Retries
from infermesh_router.relay.retry_budget import RetryBudget
from infermesh_router.requests.call import Call
from infermesh_runtime.errors import Code, DeadlineExceeded, InfermeshError, ResourceExhausted

_log = logging.getLogger(__name__)

_PAUSE_MIN_S = 0.05
_PAUSE_MAX_S = 1.0
"""Between two tries to go on with a stream, doubled each time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayParts:
    """What all relays of a dispatcher share."""

    admission: Admission
    attempts: Attempts
    budget: RetryBudget
    delays: FirstTokenDelays
    metrics: RequestMetrics
    sessions: Sessions
    options: DispatchOptions
    elsewhere: Callable[[Call, frozenset[str]], bool]
    """Whether an endpoint but those could serve the call now."""
    clock: Callable[[], float]


class Relay:
    """One call. `begin`, then `events`; `close` ends what is left of it."""

    def __init__(self, parts: RelayParts, call: Call, *, deadline_s: float | None, since_s: float) -> None:
        self._parts = parts
        self._call = call
        self._deadline_s = deadline_s
        self._since_s = since_s
        self._delivered = Delivered(call.wanted.sequences)
        self._attempt: Attempt | None = None
        self._failed: set[str] = set()
        """Endpoints that the stream was taken from."""
        self._tries_left = parts.options.max_failovers
        self._had_internal = False

    async def begin(self) -> tuple[pb.GenerateResponse, bytes]:
        """`started`, with endpoint and reason set, and the event after it. Raises InfermeshError."""
        parts = self._parts
        retries = Retries(parts.options.attempts, parts.budget, parts.metrics)
        while True:
            try:
                grant = await parts.admission.admit(self._call, deadline_s=self._deadline_s, tried=retries.tried)
            except InfermeshError as refusal:
                raise retries.last or refusal from None
            try:
                attempt = await (self._open_hedged(grant) if parts.options.hedges else self._open(grant))
                first = self._adopt(attempt)
            except InfermeshError as error:
                await retries.after(grant.endpoint.address, error)
                continue
            return self._started(attempt), first

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The events after those of `begin`, over as many endpoints as it takes. Raises InfermeshError."""
        take = self._delivered.take
        while True:
            attempt, fault = self._running, None
            try:
                with attempt.errors():
                    attempt.progress += 1
                    async for message in attempt.events:
                        attempt.progress += 1
                        yield take(message)
                        attempt.progress += 1
            except InfermeshError as error:
                fault = with_retry_after(error)
            if self._delivered.is_complete(self._call.body):
                self._parts.attempts.close(attempt, fault)
                return
            fault = fault or attempt.cut()
            self._parts.attempts.close(attempt, fault)
            yield await self._move(attempt, fault)

    def close(self) -> None:
        """Cancels what still runs."""
        if self._attempt is not None:
            self._parts.attempts.close(self._attempt, None, complete=False)
            self._attempt = None  # it knows this relay: together they would wait for the cyclic collector

    @property
    def _running(self) -> Attempt:
        if self._attempt is None:
            raise RuntimeError("the call has not begun")
        return self._attempt

    async def _open(self, grant: Grant) -> Attempt:
        """Sends the request to the endpoint of the grant."""
        address = grant.endpoint.address
        overhead_s = self._parts.clock() - self._since_s - grant.queued_s
        self._parts.metrics.sent(address, queued_s=grant.queued_s, overhead_s=overhead_s)
        attempt = await self._send(grant, self._call.body_for(address))
        attempt.started.overhead_ms += 1000 * overhead_s  # that of routers behind this one is there
        return attempt

    async def _open_hedged(self, grant: Grant) -> Attempt:
        """The same, and to a second endpoint when the first one is slow."""
        parts = self._parts
        tried = frozenset({grant.endpoint.address})
        sent_s = parts.clock()

        async def again() -> Attempt:
            return await self._open(await parts.admission.admit(self._call, deadline_s=self._deadline_s, tried=tried))

        def may_hedge() -> bool:
            if not parts.elsewhere(self._call, tried) or not parts.budget.withdraw():
                return False
            parts.metrics.hedges.inc()
            return True

        delay_s = parts.options.hedge_after_s
        if parts.options.hedge_when_slow:
            delay_s = min(delay_s, parts.delays.slow_s())
        try:
            attempt = await first_of(
                self._open(grant),
                again,
                delay_s=delay_s,
                may_hedge=may_hedge,
                discard=lambda loser: parts.attempts.close(loser, None, complete=False),
            )
        except BaseException:
            grant.release()  # a task that is cancelled before it runs releases nothing
            raise
        parts.delays.note(parts.clock() - sent_s)
        return attempt

    async def _send(self, grant: Grant, body: bytes) -> Attempt:
        address = grant.endpoint.address
        timeout_s = None if self._deadline_s is None else max(0.0, self._deadline_s - self._parts.clock())
        return await self._parts.attempts.open(
            grant,
            body,
            timeout_s=timeout_s,
            may_move=lambda: self._parts.elsewhere(self._call, frozenset({*self._failed, address})),
        )

    def _started(self, attempt: Attempt) -> pb.GenerateResponse:
        """`started` as the client is told it."""
        grant, started = attempt.grant, attempt.started
        now_s = self._parts.clock()
        self._parts.metrics.first_token_s.labels(started.model).observe(now_s - self._since_s)
        self._parts.sessions.note(self._call.session_id, attempt.address)
        started.endpoint = attempt.address
        started.reason = grant.choice.reason
        started.queued_ms += round(1000 * grant.queued_s)
        started.loading_ms += round(1000 * grant.loading_s)
        return pb.GenerateResponse(started=started)

    def _adopt(self, attempt: Attempt) -> bytes:
        """The stream goes on with this attempt; its first event. Raises InfermeshError when that cannot be."""
        try:
            first = self._delivered.take(attempt.first)
        except InfermeshError as error:
            self._parts.attempts.close(attempt, error)
            raise
        self._attempt = attempt
        return first

    async def _move(self, left: Attempt, fault: InfermeshError) -> bytes:
        """Goes on elsewhere; the first event from there. Raises the fault when that is not to be or cannot be done."""
        verdict = judge_running(fault)
        if verdict is Verdict.REFUSE or (verdict is Verdict.FAULT_ONCE and self._had_internal):
            raise with_retry_after(fault)
        self._had_internal = self._had_internal or verdict is Verdict.FAULT_ONCE
        self._failed.add(left.address)
        _log.warning("a stream leaves endpoint %s: %s", left.address, fault.message)
        first = await self._go_on(left.address, fault)
        self._tries_left -= verdict is not Verdict.LEAVE
        self._parts.metrics.moved(left.address, fault.reason)
        self._parts.sessions.note(self._call.session_id, self._running.address)
        return first

    async def _go_on(self, left: str, fault: InfermeshError) -> bytes:
        """The first event of the stream's continuation. Raises the fault when no endpoint gives one."""
        give_up_s = self._parts.clock() + self._parts.options.failover_wait_s
        pause_s = 0.0
        while self._tries_left > 0:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s or _PAUSE_MIN_S, _PAUSE_MAX_S)
            grant = await self._admit_again(fault, give_up_s)
            address = grant.endpoint.address
            self._delivered.failovers.append(pb.Failover(from_endpoint=left, to_endpoint=address, reason=fault.reason))
            try:
                return self._adopt(await self._send(grant, self._delivered.continuation(self._call.body_for(address))))
            except InfermeshError as error:
                del self._delivered.failovers[-1]
                if error.code is Code.DEADLINE_EXCEEDED:
                    raise
                _log.warning("endpoint %s does not go on with a stream: %s", address, error.message)
                self._count_try(address, error, give_up_s)
        raise with_retry_after(fault)

    def _count_try(self, address: str, error: InfermeshError, give_up_s: float) -> None:
        """An endpoint that is busy, or not in service, takes no try: it is asked again while there is time."""
        self._failed.add(address)
        verdict = judge(error)
        is_late = self._parts.clock() >= give_up_s
        if verdict is not Verdict.BUSY and (verdict is not Verdict.LEAVE or is_late):
            self._tries_left -= 1

    async def _admit_again(self, fault: InfermeshError, give_up_s: float) -> Grant:
        """Leave to go on somewhere: where the stream has not failed yet, else, after a pause, anywhere."""
        parts, pause_s = self._parts, _PAUSE_MIN_S
        tried = frozenset(self._failed)
        while True:
            try:
                return await parts.admission.admit(self._call, deadline_s=self._deadline_s, tried=tried, resumed=True)
            except (DeadlineExceeded, ResourceExhausted):
                raise
            except InfermeshError:
                left_s = give_up_s - parts.clock()
                if left_s <= 0:
                    raise with_retry_after(fault) from None
            await asyncio.sleep(min(pause_s, left_s))
            pause_s = min(2 * pause_s, _PAUSE_MAX_S)
            tried = frozenset()
