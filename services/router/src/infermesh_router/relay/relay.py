"""Relays one call: retries it before its first token or part, and moves its stream when an endpoint fails later."""

from collections.abc import AsyncGenerator

from infermesh_router.fleet.faults import with_retry_after
from infermesh_router.journal.story import Story
from infermesh_router.relay.attempt import Attempt
from infermesh_router.relay.failover import StreamMover
from infermesh_router.relay.poison import Suspicion
from infermesh_router.relay.retrying.lost_endpoints import LostEndpoints
from infermesh_router.relay.retrying.retries import Retries
from infermesh_router.relay.sender import RelayParts, Sender
from infermesh_router.relay.streams.event import StreamEvent, write_event
from infermesh_router.relay.streams.stream_kind import STREAM_KINDS
from infermesh_router.relay.streams.tail import Tail
from infermesh_router.relay.telling_story import tell_begun, tell_ended, tell_failed, telling_wait
from infermesh_router.requests.call import Call
from infermesh_router.requests.telling import Telling
from infermesh_runtime.errors import InfermeshError


class Relay:
    """One call. `begin`, then iterate over `events`; `close` ends what is left of it."""

    def __init__(
        self,
        parts: RelayParts,
        call: Call,
        *,
        deadline_s: float | None,
        since_s: float,
        story: Story,
        telling: Telling | None = None,
    ) -> None:
        """`story` gathers what becomes of the call. `telling` tells the client what it waits for."""
        self._parts = parts
        self._call = call
        self._since_s = since_s
        self._story = story
        self._sender = Sender(parts, call, deadline_s=deadline_s, since_s=since_s, telling=telling)
        self._delivered = STREAM_KINDS[call.method].progress(call)
        self._suspicion = Suspicion(parts.poison, call)
        self._mover = StreamMover(parts, call, self._sender, self._delivered, self._suspicion, story=story)
        self._attempt: Attempt | None = None

    async def begin(self) -> tuple[StreamEvent, StreamEvent]:
        """Waits for the first token: `started`, with endpoint and reason set, and the event after it.

        Raises InfermeshError.
        """
        parts = self._parts
        await self._suspicion.check()
        lost = LostEndpoints(parts.admission.wake_later, clock=parts.clock)
        retries = Retries(parts.options.attempts, parts.budget, parts.metrics, lost)
        while True:
            try:
                with telling_wait(self._story, self._sender.pending, parts.clock):
                    grant = await self._sender.admit(lost)
            except InfermeshError as refusal:
                raise retries.last or refusal from None
            try:
                self._attempt = await self._sender.send_first(grant)
                first = parts.attempts.accept(self._attempt, self._delivered.take)
            except InfermeshError as error:
                tell_failed(self._story, grant.endpoint.address, error)
                await self._suspicion.note(grant.endpoint.address, error)
                retries.note(grant.endpoint.address, error)
                continue
            return self._tell_start(self._attempt), first

    async def events(self, *begun: StreamEvent, tail: Tail | None = None) -> AsyncGenerator[StreamEvent, None]:
        """The events of `begin`, given back, and all after them, over as many endpoints as it takes.

        `tail` holds from the event on with which the rest has come, and until the call moves. Raises InfermeshError.
        """
        for event in begun:
            if tail is not None and self._running.has_all:
                tail.hold()
            yield event
        take = self._delivered.take
        while True:
            attempt, fault = self._running, None
            try:
                with attempt.errors():
                    async for event in attempt:
                        if tail is not None and attempt.has_all:
                            tail.hold()
                        yield take(event)
            except InfermeshError as error:
                fault = with_retry_after(error)
            if self._delivered.is_complete(self._call.body):
                self._suspicion.finished(tokens=self._delivered.tokens)
                self._parts.attempts.close(attempt, fault)
                return
            fault = fault or attempt.cut_short()
            self._parts.attempts.close(attempt, fault)
            if tail is not None:
                await tail.flush()
            self._attempt, first = await self._mover.move(attempt.address, fault)
            yield first

    def close(self) -> None:
        """Cancels what still runs."""
        if self._attempt is not None:
            self._parts.attempts.close(self._attempt, None, complete=False)
            self._attempt = None
        tell_ended(self._story, self._delivered)

    @property
    def _running(self) -> Attempt:
        if self._attempt is None:
            raise RuntimeError("the call has not begun")
        return self._attempt

    def _tell_start(self, attempt: Attempt) -> StreamEvent:
        """`started` as the client gets it: which endpoint answers, why, and what it waited for."""
        grant, started = attempt.grant, attempt.started
        self._delivered.begin(started, grant.endpoint.context_length(started.model))
        self._parts.metrics.first_token_s.labels(started.model).observe(self._parts.clock() - self._since_s)
        self._parts.sessions.note(self._call.session_id, attempt.address)
        attempt.kind.tell_way(started, grant, attempt.overhead_s)
        tell_begun(self._story, started, grant, attempt.overhead_s)
        return write_event(attempt.kind.response(started=started))
