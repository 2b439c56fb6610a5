"""Owns one sending of a stream to one endpoint: its first two events, its silence, its outcome on the breaker.

Knows no other endpoint, and of the messages only that `started` comes first.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager

import grpc
from google.protobuf.message import DecodeError

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.admission.grant import Grant
from infermesh_router.fleet.endpoint import Endpoint
from infermesh_router.fleet.faults import (
    CONNECT_TIMEOUT,
    MALFORMED_MESSAGE,
    STREAM_CUT,
    Verdict,
    judge_running,
    to_error,
)
from infermesh_router.requests.call import GENERATE
from infermesh_runtime.errors import InfermeshError, Internal, Unavailable
from infermesh_runtime.logs import REQUEST_ID
from infermesh_runtime.rpc.context import REQUEST_ID_KEY


class Attempt:
    """A stream on an endpoint. `begin` reads its first two events; then `events` are the others, read by one reader.

    The reader adds 1 to `progress` before it waits for an event, and 1 when it has it: odd means that the endpoint is
    waited for. `abandon` ends it from outside; its reader then sees asyncio.CancelledError and finds why in `left`.
    """

    __slots__ = ("begun", "events", "first", "grant", "left", "may_move", "probe", "progress", "started", "stream")

    def __init__(
        self, grant: Grant, stream: grpc.aio.UnaryStreamCall, *, probe: bool, may_move: Callable[[], bool]
    ) -> None:
        self.grant = grant
        self.stream = stream
        self.probe = probe
        self.may_move = may_move
        """Whether the request could go to another endpoint now."""
        self.events: AsyncIterator[bytes] = aiter(stream)
        self.started = pb.Started()
        self.first = b""
        self.begun = False
        self.progress = 1
        self.left: InfermeshError | None = None

    @property
    def address(self) -> str:
        """The endpoint's."""
        return self.grant.endpoint.address

    def abandon(self, error: InfermeshError) -> bool:
        """Ends it, for that reason. Only the first one counts; whether this is it."""
        if self.left is not None:
            return False
        self.left = error
        self.stream.cancel()
        return True

    async def begin(self, connect_s: float) -> None:
        """Reads `started` and the event after it. Raises InfermeshError."""
        with self.errors():
            await self._connect(connect_s)
            try:
                started = pb.GenerateResponse.FromString(await anext(self.events))
                self.first = await anext(self.events)
            except StopAsyncIteration:
                raise self._cut("ended its stream before a token", STREAM_CUT) from None
            except DecodeError:
                raise self._cut("sent a malformed message", MALFORMED_MESSAGE) from None
        if not started.HasField("started"):
            raise Internal(f"Endpoint {self.address} did not begin its stream with `started`.")
        self.started = started.started
        self.begun = True
        self.progress += 1

    def cut(self) -> InfermeshError:
        """The error of a stream that ended before all choices had."""
        return self._cut("ended its stream early", STREAM_CUT)

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turns what reading raises into an InfermeshError: a failed call, and a call that was abandoned."""
        try:
            yield
        except grpc.aio.AioRpcError as error:
            raise to_error(error) from error
        except asyncio.CancelledError:
            if self.left is None or _is_cancelled():
                raise
            raise self.left from None

    async def _connect(self, connect_s: float) -> None:
        channel = self.grant.endpoint.channel
        if channel.get_state() is grpc.ChannelConnectivity.READY:
            return
        try:
            async with asyncio.timeout(connect_s):
                await self.stream.wait_for_connection()
        except TimeoutError:
            raise self._cut(f"was not reached in {connect_s:g} s", CONNECT_TIMEOUT) from None

    def _cut(self, what: str, reason: str) -> Unavailable:
        return Unavailable(f"Endpoint {self.address} {what}.", reason=reason)


class Attempts:
    """Opens and closes attempts, and knows those that are open. Breakers learn each one's outcome here."""

    def __init__(
        self, *, connect_s: float, on_open: Callable[[Attempt], None], on_close: Callable[[Attempt], None]
    ) -> None:
        self._connect_s = connect_s
        self._on_open = on_open
        self._on_close = on_close
        self._open: dict[str, set[Attempt]] = {}

    def on(self, address: str) -> list[Attempt]:
        """Those that are open on the endpoint."""
        return list(self._open.get(address, ()))

    async def open(
        self, grant: Grant, body: bytes, *, timeout_s: float | None, may_move: Callable[[], bool]
    ) -> Attempt:
        """Sends the request; the attempt once its first token is there. Raises InfermeshError. Takes the grant."""
        endpoint = grant.endpoint
        stream = endpoint.channel.unary_stream(GENERATE)(body, timeout=timeout_s, metadata=request_metadata())
        attempt = Attempt(grant, stream, probe=endpoint.breaker.enter(), may_move=may_move)
        self._open.setdefault(endpoint.address, set()).add(attempt)
        self._on_open(attempt)
        try:
            await attempt.begin(self._connect_s)
        except InfermeshError as error:
            self.close(attempt, error)
            raise
        except BaseException:
            self.close(attempt, None, complete=False)
            raise
        endpoint.breaker.prove(probe=attempt.probe)
        return attempt

    def close(self, attempt: Attempt, error: InfermeshError | None, *, complete: bool = True) -> None:
        """Ends an attempt: by an error, complete, or because nobody wants the rest. Closing twice is safe."""
        running = self._open.get(attempt.address, set())
        if attempt not in running:
            return
        running.remove(attempt)
        if not running:
            del self._open[attempt.address]
        self._on_close(attempt)
        attempt.stream.cancel()
        attempt.grant.release()
        tell_breaker(attempt.grant.endpoint, error, probe=attempt.probe, complete=complete)


def tell_breaker(endpoint: Endpoint, error: InfermeshError | None, *, probe: bool, complete: bool = True) -> None:
    """Counts an outcome on the endpoint's breaker: only a fault of the endpoint is a failure."""
    if error is None:
        if complete:
            endpoint.breaker.succeed(probe=probe)
        else:
            endpoint.breaker.leave(probe=probe)
    elif judge_running(error) in (Verdict.FAULT, Verdict.FAULT_ONCE):
        endpoint.note_error(error.message)
        endpoint.breaker.fail(probe=probe)
    else:
        endpoint.breaker.leave(probe=probe)


def request_metadata() -> tuple[tuple[str, str], ...]:
    """What is sent with a call to an endpoint."""
    request_id = REQUEST_ID.get()
    return ((REQUEST_ID_KEY, request_id),) if request_id else ()


def _is_cancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
