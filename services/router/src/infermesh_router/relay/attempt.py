"""One attempt to run a call on one endpoint: its events, and whether the router waits for the endpoint."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from typing import Any, Protocol

import grpc

from infermesh_router.admission.grant import Grant
from infermesh_router.fleet.faults import CONNECT_TIMEOUT, STREAM_CUT, to_error
from infermesh_router.fleet.frames.frame_call import FrameCall
from infermesh_router.relay.streams.event import StreamEvent
from infermesh_router.relay.streams.stream_kind import StreamKind
from infermesh_runtime.background.tasks import is_cancelled
from infermesh_runtime.errors import InfermeshError, Internal, Unavailable


class EndpointStream(Protocol):
    """A stream of messages from an endpoint: a call of gRPC's own, or one in frames."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def wait_for_connection(self) -> None:
        """Returns once the endpoint is connected. Raises AioRpcError."""

    def cancel(self) -> bool:
        """Ends it; whoever reads it gets asyncio.CancelledError. False if it had ended."""
        ...


class Attempt:
    """A stream on an endpoint. `begin` reads its first two events; then iterate over the attempt to get the others.

    Only the attempt writes `waiting` and `waits`; the stall watch reads them. `abandon` ends the attempt from outside:
    the task that reads it gets asyncio.CancelledError, which `errors` turns into the reason it was abandoned for.
    """

    __slots__ = (
        "_in_frames",
        "_next",
        "_read",
        "abandoned",
        "begun",
        "first",
        "grant",
        "kind",
        "may_move",
        "overhead_s",
        "probe",
        "started",
        "stream",
        "waiting",
        "waits",
    )

    def __init__(
        self,
        grant: Grant,
        stream: EndpointStream,
        kind: StreamKind,
        *,
        probe: bool,
        may_move: Callable[[], bool],
    ) -> None:
        self.grant = grant
        self.kind = kind
        self._read = kind.read
        self.stream = stream
        self._in_frames = stream if isinstance(stream, FrameCall) else None
        self.probe = probe
        self.may_move = may_move
        """Whether the request could go to another endpoint now."""
        self._next = aiter(stream).__anext__
        self.started: Any
        """The beginning of the stream; set by `begin`, as is `first`."""
        self.first: StreamEvent
        """The event after `started`."""
        self.overhead_s = 0.0
        """What the router itself added to the latency of a request that was sent from its beginning."""
        self.begun = False
        """Whether the first token, or part, is there."""
        self.waiting = True
        """Whether the endpoint is waited for; if not, the client is."""
        self.waits = 1
        """Waits so far: one for the first token, then one for each event. Silence is measured from a wait's start."""
        self.abandoned: InfermeshError | None = None
        """Why it was abandoned."""

    @property
    def has_all(self) -> bool:
        """Whether the rest of the stream has come and waits to be read. Of a call of gRPC's own nobody knows."""
        return self._in_frames is not None and self._in_frames.is_complete

    @property
    def address(self) -> str:
        """The endpoint's address."""
        return self.grant.endpoint.address

    def abandon(self, error: InfermeshError) -> bool:
        """Ends the attempt for that reason. False if it was abandoned before: the first reason counts."""
        if self.abandoned is not None:
            return False
        self.abandoned = error
        self.stream.cancel()
        return True

    async def begin(self, connect_s: float) -> None:
        """Reads `started` and the event after it. Raises InfermeshError."""
        with self.errors():
            await self._connect(connect_s)
            try:
                _, opening = self._read(await self._next())
                self.first = self._read(await self._next())
            except StopAsyncIteration:
                raise self._cut("ended its stream before a token", STREAM_CUT) from None
        if not opening.HasField("started"):
            raise Internal(f"Endpoint {self.address} did not begin its stream with `started`.")
        self.started = opening.started
        self.begun = True
        self.waiting = False

    def __aiter__(self) -> "Attempt":
        return self

    async def __anext__(self) -> StreamEvent:
        """The next event, once it is there. Raises Unavailable if it is malformed, else as gRPC does; see `errors`."""
        self.waits += 1
        self.waiting = True
        message = await self._next()
        self.waiting = False
        return self._read(message)

    def cut_short(self) -> InfermeshError:
        """The error of a stream that ended although a choice had not."""
        return self._cut("ended its stream early", STREAM_CUT)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turns what reading raises into an InfermeshError: when the call failed, or the attempt was abandoned."""
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise to_error(error) from error
        except asyncio.CancelledError:
            if self.abandoned is None or is_cancelled():
                raise
            raise self.abandoned from None

    async def _connect(self, connect_s: float) -> None:
        if self._in_frames is not None:
            return  # the link is open
        channel = self.grant.endpoint.channel
        if channel.get_state() is grpc.ChannelConnectivity.READY:
            return
        try:
            async with asyncio.timeout(connect_s):
                await self.stream.wait_for_connection()
        except TimeoutError:
            raise self._cut(f"could not be reached within {connect_s:g} s", CONNECT_TIMEOUT) from None

    def _cut(self, what: str, reason: str) -> Unavailable:
        return Unavailable(f"Endpoint {self.address} {what}.", reason=reason)
