"""Opens and closes attempts, lists those that are open, and reports each outcome to the endpoint's circuit breaker."""

from collections.abc import Callable

from infermesh_router.admission.grant import Grant
from infermesh_router.fleet.endpoint import Endpoint
from infermesh_router.fleet.faults import Verdict, is_endpoints_fault, judge
from infermesh_router.relay.attempt import Attempt, EndpointStream
from infermesh_router.relay.streams.event import StreamEvent
from infermesh_router.relay.streams.stream_kind import STREAM_KINDS
from infermesh_router.requests.call import GENERATE
from infermesh_runtime.errors import InfermeshError
from infermesh_runtime.logs import REQUEST_ID
from infermesh_runtime.rpc.context import REQUEST_ID_KEY


class Attempts:
    """The open attempts of this router. `open` and `close` come in pairs."""

    def __init__(
        self, *, connect_s: float, on_open: Callable[[Attempt], None], on_close: Callable[[Attempt], None]
    ) -> None:
        self._connect_s = connect_s
        self._on_open = on_open
        self._on_close = on_close
        self._open: dict[str, set[Attempt]] = {}

    def on(self, address: str) -> list[Attempt]:
        """The attempts that are open on an endpoint."""
        return list(self._open.get(address, ()))

    async def open(
        self, grant: Grant, method: str, body: bytes, *, timeout_s: float | None, may_move: Callable[[], bool]
    ) -> Attempt:
        """Sends the request; returns once the first token is there. Takes over the grant. Raises InfermeshError."""
        endpoint, kind = grant.endpoint, STREAM_KINDS[method]
        stream = start_stream(endpoint, method, body, timeout_s=timeout_s)
        attempt = Attempt(grant, stream, kind, probe=endpoint.breaker.enter(), may_move=may_move)
        self._open.setdefault(endpoint.address, set()).add(attempt)
        self._on_open(attempt)
        try:
            await attempt.begin(self._connect_s)
        except InfermeshError as error:
            self.close(attempt, error)
            tell_if_sent_back(grant, error)
            raise
        except BaseException:
            self.close(attempt, None, complete=False)
            raise
        endpoint.breaker.prove(probe=attempt.probe)
        return attempt

    def accept(self, attempt: Attempt, take: Callable[[StreamEvent], StreamEvent]) -> StreamEvent:
        """The attempt's first event, passed through `take`. If `take` raises InfermeshError, the attempt is closed."""
        try:
            return take(attempt.first)
        except InfermeshError as error:
            self.close(attempt, error)
            raise

    def close(self, attempt: Attempt, error: InfermeshError | None, *, complete: bool = True) -> None:
        """Ends an attempt: because it failed, is complete, or nobody wants the rest. Closing twice is safe."""
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


def start_stream(endpoint: Endpoint, method: str, body: bytes, *, timeout_s: float | None) -> EndpointStream:
    """Sends the request: in frames if the endpoint has them, else as a call of its own."""
    frames = endpoint.frames
    if frames is not None and method == GENERATE and frames.carries(body):
        return frames.start(body, request_id=REQUEST_ID.get(), timeout_s=timeout_s)
    call: EndpointStream = endpoint.channel.unary_stream(method)(body, timeout=timeout_s, metadata=request_metadata())
    return call


def tell_breaker(endpoint: Endpoint, error: InfermeshError | None, *, probe: bool, complete: bool = True) -> None:
    """Reports an outcome to the endpoint's breaker. Only a fault of the endpoint counts as a failure."""
    if error is None:
        if complete:
            endpoint.breaker.succeed(probe=probe)
        else:
            endpoint.breaker.leave(probe=probe)
    elif is_endpoints_fault(error):
        endpoint.note_error(error.message)
        endpoint.breaker.fail(probe=probe)
    else:
        endpoint.breaker.leave(probe=probe)


def tell_if_sent_back(grant: Grant, error: InfermeshError) -> None:
    """Takes the endpoint as full for the model if it sent a request back that had no token yet."""
    if judge(error) is Verdict.BUSY:
        grant.endpoint.note_sent_back(grant.lease.model)


def request_metadata() -> tuple[tuple[str, str], ...]:
    """The metadata of a call to an endpoint: the request's id."""
    request_id = REQUEST_ID.get()
    return ((REQUEST_ID_KEY, request_id),) if request_id else ()
