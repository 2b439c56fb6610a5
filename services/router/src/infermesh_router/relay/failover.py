"""Moves a running stream to another endpoint when the one it is on fails."""

import logging
from functools import partial

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.admission.grant import Grant
from infermesh_router.fleet.faults import Verdict, judge, judge_running, with_retry_after
from infermesh_router.journal.story import Story
from infermesh_router.relay.attempt import Attempt
from infermesh_router.relay.failed_endpoints import FailedEndpoints
from infermesh_router.relay.poison import Suspicion
from infermesh_router.relay.sender import RelayParts, Sender
from infermesh_router.relay.streams.event import StreamEvent
from infermesh_router.relay.streams.stream_kind import Progress
from infermesh_router.requests.call import Call
from infermesh_runtime.errors import Code, DeadlineExceeded, InfermeshError, ResourceExhausted

_log = logging.getLogger(__name__)


class StreamMover:
    """Moves one call's stream, as often as the options allow."""

    def __init__(
        self,
        parts: RelayParts,
        call: Call,
        sender: Sender,
        delivered: Progress,
        suspicion: Suspicion,
        *,
        story: Story,
    ) -> None:
        self._parts = parts
        self._call = call
        self._sender = sender
        self._delivered = delivered
        self._suspicion = suspicion
        self._story = story
        self._failed = FailedEndpoints(parts.admission.wake, clock=parts.clock, tasks=parts.tasks)
        """Those that the stream was taken from, or that did not continue it."""
        self._tries_left = parts.options.max_failovers
        self._had_internal = False

    async def move(self, left: str, fault: InfermeshError) -> tuple[Attempt, StreamEvent]:
        """Continues elsewhere: the new attempt and its first event. `left`: the endpoint that failed.

        Raises the fault if the stream may not move or no endpoint continues it.
        """
        after_tokens = self._delivered.tokens
        await self._suspicion.note(left, fault, tokens=after_tokens)
        verdict = judge_running(fault)
        if verdict is Verdict.REFUSE or (verdict is Verdict.FAULT_ONCE and self._had_internal):
            raise with_retry_after(fault)
        self._had_internal = self._had_internal or verdict is Verdict.FAULT_ONCE
        self._failed.note(left)
        _log.warning("a stream leaves endpoint %s: %s", left, fault.message)
        attempt, first = await self._continue(left, fault)
        self._tries_left -= verdict is not Verdict.LEAVE
        self._parts.metrics.moved(left, fault.reason)
        self._parts.sessions.note(self._call.session_id, attempt.address)
        self._tell(after_tokens)
        return attempt, first

    def _tell(self, after_tokens: int) -> None:
        move, wanted = self._delivered.failovers[-1], self._call.wanted
        self._story.moved(move, after_tokens=after_tokens)
        self._parts.journal.note(
            "failover",
            client=wanted.client,
            request_id=self._story.request_id,
            model=wanted.model,
            from_endpoint=move.from_endpoint,
            to_endpoint=move.to_endpoint,
            reason=move.reason,
            after_tokens=after_tokens,
        )

    async def _continue(self, left: str, fault: InfermeshError) -> tuple[Attempt, StreamEvent]:
        """Asks endpoints to continue the stream until one does. Raises the fault if none does."""
        give_up_s = self._parts.clock() + self._parts.options.failover_wait_s
        failovers = self._delivered.failovers
        while self._tries_left > 0:
            grant = await self._admit(fault, give_up_s)
            address = grant.endpoint.address
            failovers.append(pb.Failover(from_endpoint=left, to_endpoint=address, reason=fault.reason))
            try:
                body = self._delivered.continuation(self._call.body_for(address))
                attempt = await self._sender.send(grant, body, failed=self._failed.addresses)
                return attempt, self._parts.attempts.accept(attempt, partial(self._delivered.resume, attempt.started))
            except InfermeshError as error:
                del failovers[-1]
                if error.code is Code.DEADLINE_EXCEEDED:
                    raise
                _log.warning("endpoint %s does not continue a stream: %s", address, error.message)
                await self._suspicion.note(address, error, tokens=self._delivered.tokens)
                self._count_try(address, error, give_up_s)
        raise with_retry_after(fault)

    def _count_try(self, address: str, error: InfermeshError, give_up_s: float) -> None:
        """An endpoint that is busy or not serving uses up no try: it is asked again while there is time."""
        verdict = judge(error)
        if verdict is Verdict.BUSY:
            return
        self._failed.note(address)
        is_late = self._parts.clock() >= give_up_s
        if verdict is not Verdict.LEAVE or is_late:
            self._tries_left -= 1

    async def _admit(self, fault: InfermeshError, give_up_s: float) -> Grant:
        """A grant for an endpoint that has not just failed. Raises the fault if there is none until `give_up_s`."""
        try:
            return await self._sender.admit_again(self._failed.avoided, give_up_s)
        except (DeadlineExceeded, ResourceExhausted):
            raise
        except InfermeshError:
            raise with_retry_after(fault) from None
