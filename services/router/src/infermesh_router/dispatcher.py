"""Owns a request's way to an endpoint: choose, send, and choose again when it fails before its first token.

Relays messages as they are; knows no OpenAI and nothing of what the policy weighs.
"""

import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass

import grpc
from google.protobuf.message import DecodeError

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.admission import Admission, Grant
from infermesh_router.call import Call
from infermesh_router.endpoint import Endpoint
from infermesh_router.metrics import RouterMetrics
from infermesh_router.policy import Choice
from infermesh_router.sessions import Sessions
from infermesh_runtime.errors import InfermeshError, Internal, Unavailable
from infermesh_runtime.logs import REQUEST_ID
from infermesh_runtime.rpc_context import REQUEST_ID_KEY
from infermesh_runtime.status import from_rpc_error

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Generation:
    """A Generate stream that has begun: the next event after `started` is there."""

    started: pb.GenerateResponse
    """The first event, with endpoint and reason set."""
    first: bytes
    """The second event, as it came."""
    rest: AsyncIterator[bytes]
    """The events after it. Raises grpc.aio.AioRpcError."""


class Dispatcher:
    """Sends calls to endpoints. Every method raises InfermeshError only, besides asyncio.CancelledError."""

    def __init__(
        self,
        admission: Admission,
        *,
        metrics: RouterMetrics,
        sessions: Sessions,
        attempts: int = 3,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._admission = admission
        self._metrics = metrics
        self._sessions = sessions
        self._attempts = attempts
        self._clock = clock

    @asynccontextmanager
    async def generate(self, call: Call, timeout_s: float | None, *, since_s: float) -> AsyncIterator[Generation]:
        """A Generate stream while the block runs; leaving it cancels what is left of the call.

        `since_s` is when the request arrived, by the dispatcher's clock (time.perf_counter).
        """
        generation, cleanup = await self._begin(call, self._deadline(timeout_s), since_s)
        with cleanup, _errors():
            yield generation
            self._metrics.request_s.labels(generation.started.started.model).observe(self._clock() - since_s)

    async def send(self, call: Call, timeout_s: float | None, *, since_s: float) -> bytes:
        """The answer to a unary call, as it came."""
        deadline_s = self._deadline(timeout_s)
        failures: dict[str, InfermeshError] = {}
        while True:
            with await self._admit(call, deadline_s, failures) as grant:
                endpoint = grant.endpoint
                self._metrics.overhead_s.observe(self._clock() - since_s - grant.queued_s)
                try:
                    stub = endpoint.channel.unary_unary(call.method)
                    return bytes(
                        await stub(
                            call.body_for(endpoint.address), timeout=self._remaining(deadline_s), metadata=_metadata()
                        )
                    )
                except grpc.aio.AioRpcError as error:
                    self._give_up(endpoint, failures, from_rpc_error(error))

    async def _begin(self, call: Call, deadline_s: float | None, since_s: float) -> tuple[Generation, ExitStack]:
        """A stream that has begun, and what to leave when it is over."""
        failures: dict[str, InfermeshError] = {}
        while True:
            with ExitStack() as cleanup:
                grant = cleanup.enter_context(await self._admit(call, deadline_s, failures))
                endpoint = grant.endpoint
                stub = endpoint.channel.unary_stream(call.method)
                stream = stub(
                    call.body_for(endpoint.address), timeout=self._remaining(deadline_s), metadata=_metadata()
                )
                cleanup.callback(stream.cancel)
                self._metrics.overhead_s.observe(self._clock() - since_s - grant.queued_s)
                try:
                    generation = await _read_beginning(stream, grant.choice)
                except (grpc.aio.AioRpcError, InfermeshError) as error:
                    self._give_up(endpoint, failures, _as_infermesh(error))
                    continue
                self._metrics.first_token_s.labels(generation.started.started.model).observe(self._clock() - since_s)
                self._sessions.note(call.session_id, endpoint.address)
                return generation, cleanup.pop_all()

    async def _admit(self, call: Call, deadline_s: float | None, failures: Mapping[str, InfermeshError]) -> Grant:
        """Leave to try an endpoint. Raises the last failure when none is left, else the refusal."""
        try:
            return await self._admission.admit(call, deadline_s=deadline_s, tried=frozenset(failures))
        except InfermeshError as refusal:
            raise [refusal, *failures.values()][-1] from None

    def _give_up(self, endpoint: Endpoint, failures: dict[str, InfermeshError], error: InfermeshError) -> None:
        """Adds the endpoint's failure. Raises it when another endpoint cannot help or may not be tried."""
        if not isinstance(error, Unavailable):
            raise error
        failures[endpoint.address] = _with_retry(error)
        endpoint.note_error(error.message)
        _log.warning("endpoint %s failed before its first token: %s", endpoint.address, error.message)
        if len(failures) >= self._attempts:
            raise error
        self._metrics.retries.inc()

    def _deadline(self, timeout_s: float | None) -> float | None:
        return None if timeout_s is None else self._clock() + timeout_s

    def _remaining(self, deadline_s: float | None) -> float | None:
        return None if deadline_s is None else max(0.0, deadline_s - self._clock())


async def _read_beginning(stream: grpc.aio.UnaryStreamCall, choice: Choice) -> Generation:
    """Reads the first two events. Raises AioRpcError, and Unavailable when there are none."""
    events = aiter(stream)
    try:
        started = pb.GenerateResponse.FromString(await anext(events))
        first = await anext(events)
    except StopAsyncIteration:
        raise Unavailable(f"Endpoint {choice.address} ended its stream before a token.", reason="STREAM_CUT") from None
    except DecodeError:
        raise Unavailable(f"Endpoint {choice.address} sent a malformed message.", reason="STREAM_CUT") from None
    if started.WhichOneof("event") != "started":
        raise Internal(f"Endpoint {choice.address} did not begin its stream with `started`.")
    started.started.endpoint = choice.address
    started.started.reason = choice.reason
    return Generation(started, first, events)


def _metadata() -> tuple[tuple[str, str], ...]:
    request_id = REQUEST_ID.get()
    return ((REQUEST_ID_KEY, request_id),) if request_id else ()


@contextmanager
def _errors() -> Iterator[None]:
    """Turns a failed call into its InfermeshError."""
    try:
        yield
    except grpc.aio.AioRpcError as error:
        raise _with_retry(from_rpc_error(error)) from error


def _as_infermesh(error: grpc.aio.AioRpcError | InfermeshError) -> InfermeshError:
    return from_rpc_error(error) if isinstance(error, grpc.aio.AioRpcError) else error


def _with_retry(error: InfermeshError) -> InfermeshError:
    """The error, saying when to try again if it is one that passes."""
    if isinstance(error, Unavailable) and error.retry_after_s is None:
        error.retry_after_s = 1.0
    return error
