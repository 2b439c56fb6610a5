"""Owns calls from their arrival to their last message: each one's relay, and what relays share.

Knows no OpenAI and nothing of what the policy weighs. A stream's own way is relay's.
"""

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace

import grpc

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.admission.admission import Admission, Choose
from infermesh_router.admission.gate import Gate
from infermesh_router.admission.grant import Grant
from infermesh_router.admission.sessions import Sessions
from infermesh_router.fleet.endpoint_set import Fleet
from infermesh_router.fleet.faults import DRAINED, to_error
from infermesh_router.metrics.request_metrics import RequestMetrics
from infermesh_router.relay.attempt import Attempt, Attempts, request_metadata, tell_breaker
from infermesh_router.relay.dispatch_options import DispatchOptions
from infermesh_router.relay.hedge import FirstTokenDelays
from infermesh_router.relay.relay import Relay, RelayParts
from infermesh_router.relay.retries import Retries
from infermesh_router.relay.retry_budget import RetryBudget
from infermesh_router.relay.stall_watch import StallWatch
from infermesh_router.requests.call import Call
from infermesh_runtime.errors import Cancelled, Code, InfermeshError, ResourceExhausted, Unavailable


@dataclass(frozen=True, slots=True)
class Generation:
    """A Generate stream that has begun: the next event after `started` is there."""

    started: pb.GenerateResponse
    """The first event, with endpoint and reason set."""
    first: bytes
    """The second event, as it came."""
    rest: AsyncIterator[bytes]
    """The events after it, up to the end of every choice, over as many endpoints as it takes. Raises InfermeshError."""


class Dispatcher:
    """Sends calls to endpoints. Every method raises InfermeshError only, besides asyncio.CancelledError."""

    def __init__(
        self,
        admission: Admission,
        *,
        fleet: Fleet,
        choose: Choose,
        metrics: RequestMetrics,
        sessions: Sessions,
        gate: Gate | None = None,
        options: DispatchOptions | None = None,
        resolve: Callable[[Call], Call] = lambda call: call,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`resolve` gives the call to the model that an alias stands for."""
        options = options or DispatchOptions()
        self._resolve = resolve
        self._fleet = fleet
        self._gate = gate or Gate(fleet.changes)
        self._choose = choose
        self._admission = admission
        self._metrics = metrics
        self._options = options
        self._clock = clock
        self._budget = RetryBudget(ratio=options.retry_ratio)
        watch = StallWatch(options.patience)
        self._attempts = Attempts(connect_s=options.patience.connect_s, on_open=watch.add, on_close=watch.remove)
        self._parts = RelayParts(
            admission=admission,
            attempts=self._attempts,
            budget=self._budget,
            delays=FirstTokenDelays(),
            metrics=metrics,
            sessions=sessions,
            options=options,
            elsewhere=self._could_serve,
            clock=clock,
        )

    @asynccontextmanager
    async def generate(self, call: Call, timeout_s: float | None, *, since_s: float) -> AsyncIterator[Generation]:
        """A Generate stream while the block runs; leaving it cancels what is left of the call.

        `since_s` is when the request arrived, by the dispatcher's clock (time.perf_counter).
        """
        call = self._resolve(call)
        relay = Relay(self._parts, call, deadline_s=self._deadline(timeout_s), since_s=since_s)
        with self._counted(call) as label:
            started, first = await relay.begin()
            model = started.started.model
            label(model)
            rest = relay.events()
            try:
                yield Generation(started, first, rest)
            finally:
                relay.close()
                await rest.aclose()
            self._metrics.request_s.labels(model).observe(self._clock() - since_s)

    async def send(self, call: Call, timeout_s: float | None, *, since_s: float) -> bytes:
        """The answer to a unary call, as it came."""
        call, deadline_s = self._resolve(call), self._deadline(timeout_s)
        retries = Retries(self._options.attempts, self._budget, self._metrics)
        with self._counted(call):
            while True:
                try:
                    grant = await self._admission.admit(call, deadline_s=deadline_s, tried=retries.tried)
                except InfermeshError as refusal:
                    raise retries.last or refusal from None
                with grant:
                    address, overhead_s = grant.endpoint.address, self._clock() - since_s - grant.queued_s
                    self._metrics.sent(address, queued_s=grant.queued_s, overhead_s=overhead_s)
                    try:
                        return await _send(grant, call, self._remaining(deadline_s))
                    except InfermeshError as error:
                        failure = error
                await retries.after(address, failure)

    def move_streams(self, address: str) -> int:
        """Moves the streams that run on an endpoint to others; how many. Those nobody else could go on with stay."""
        error = Unavailable(f"Endpoint {address} is being drained.", reason=DRAINED)
        return sum(_may_move(attempt) and attempt.abandon(error) for attempt in self._attempts.on(address))

    def _could_serve(self, call: Call, tried: frozenset[str]) -> bool:
        """Whether an endpoint but those could serve the call, now or when it has room."""
        try:
            self._choose(self._fleet.snapshots, replace(call.wanted, tried=tried), turn=0)
        except ResourceExhausted:
            return True
        except InfermeshError:
            return False
        return True

    @contextmanager
    def _counted(self, call: Call) -> Iterator[Callable[[str], None]]:
        """Counts the request by its model, which the block tells when it knows it, and its status."""
        model, code = "", Code.OK

        def label(name: str) -> None:
            nonlocal model
            model = name

        try:
            with self._gate.entered():
                yield label
        except InfermeshError as error:
            code = error.code
            raise
        except BaseException:
            code = Cancelled.code
            raise
        finally:
            self._metrics.requests.labels(model or self._known(call.wanted.model), code.name).inc()

    def _known(self, model: str) -> str:
        """The model's name if an endpoint has it or could load it, else "": clients cannot add series."""
        endpoints = self._fleet.snapshots
        known = endpoints.serving(model).any() or any(model in endpoint.available for endpoint in endpoints)
        return model if known else ""

    def _deadline(self, timeout_s: float | None) -> float | None:
        return None if timeout_s is None else self._clock() + timeout_s

    def _remaining(self, deadline_s: float | None) -> float | None:
        return None if deadline_s is None else max(0.0, deadline_s - self._clock())


def _may_move(attempt: Attempt) -> bool:
    return attempt.left is None and attempt.may_move()


async def _send(grant: Grant, call: Call, timeout_s: float | None) -> bytes:
    """A unary call's answer. Raises InfermeshError; the endpoint's breaker learns the outcome."""
    endpoint = grant.endpoint
    probe = endpoint.breaker.enter()
    stub = endpoint.channel.unary_unary(call.method)
    try:
        answer = await stub(call.body_for(endpoint.address), timeout=timeout_s, metadata=request_metadata())
    except grpc.aio.AioRpcError as error:
        failure = to_error(error)
        tell_breaker(endpoint, failure, probe=probe)
        raise failure from error
    except BaseException:
        tell_breaker(endpoint, None, probe=probe, complete=False)
        raise
    tell_breaker(endpoint, None, probe=probe)
    return bytes(answer)
