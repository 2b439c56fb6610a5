"""Owns who asks to be let to an endpoint, and the leave that is given. Knows neither queue nor policy."""

from collections.abc import Hashable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from infermesh_router.fleet.endpoint import Endpoint, Lease
from infermesh_router.policy.choice import Choice
from infermesh_router.requests.call import Call


@dataclass(slots=True, eq=False)
class Applicant:
    """A request that asks for an endpoint, from its arrival to its grant."""

    call: Call
    tried: frozenset[str]
    resumed: bool
    since_s: float
    deadline_s: float | None
    waited: bool = False
    loading_s: float = 0.0
    """Time in which its model was loaded so far."""

    @property
    def lane(self) -> Hashable:
        """What decides, besides the model, whether an endpoint can serve it: those who share it wait in line."""
        return (self.call.wanted.device, self.tried)


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
