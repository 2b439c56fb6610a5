"""Owns when a request may go to an endpoint: at once, when its turn comes, or never. Knows no stream and no wire."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Protocol, Self

from infermesh_router.call import Call
from infermesh_router.endpoint import Endpoint, Lease
from infermesh_router.fleet import Fleet
from infermesh_router.metrics import RouterMetrics
from infermesh_router.policy import Choice
from infermesh_router.sessions import Sessions
from infermesh_router.snapshot import EndpointSnapshot, Wanted


class Choose(Protocol):
    """The policy, as `policy.choose`."""

    def __call__(self, endpoints: Sequence[EndpointSnapshot], wanted: Wanted, *, turn: int) -> Choice: ...


@dataclass(slots=True, eq=False)
class Grant:
    """Leave to send one request to an endpoint. A context manager: leaving it ends the endpoint's lease."""

    endpoint: Endpoint
    choice: Choice
    queued_s: float
    """Time the request waited, loading included."""
    loading_s: float
    """The part of queued_s in which its model was loaded."""
    lease: Lease

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """The request is done with the endpoint, well or not. Releasing twice is safe."""
        self.endpoint.release(self.lease)


class Admission:
    """Lets requests go to endpoints, one Grant each."""

    def __init__(
        self,
        fleet: Fleet,
        *,
        choose: Choose,
        metrics: RouterMetrics,
        sessions: Sessions,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._fleet = fleet
        self._choose = choose
        self._metrics = metrics
        self._sessions = sessions
        self._clock = clock
        self._turn = 0

    async def admit(
        self,
        call: Call,
        *,
        deadline_s: float | None,  # noqa: ARG002 - for the queue
        tried: frozenset[str] = frozenset(),
        resumed: bool = False,  # noqa: ARG002 - for the queue
    ) -> Grant:
        """Leave to send the call, credited to its endpoint until the grant is left.

        `deadline_s` is absolute, by the admission's clock (time.perf_counter); `tried` are endpoints it failed on;
        `resumed` marks a stream that goes on after a failure and passes everything that waits. Raises InfermeshError.
        """
        return self._grant(call, tried)

    def _grant(self, call: Call, tried: frozenset[str]) -> Grant:
        wanted = replace(call.wanted, tried=tried, session_endpoint=self._sessions.find(call.session_id))
        self._turn += 1
        choice = self._choose(self._fleet.snapshots, wanted, turn=self._turn)
        self._metrics.choices.labels(choice.reason).inc()
        endpoint = self._fleet.get(choice.address)
        lease = endpoint.acquire(prompt_tokens=wanted.prompt_tokens, sequences=wanted.sequences)
        return Grant(endpoint, choice, 0.0, 0.0, lease)
