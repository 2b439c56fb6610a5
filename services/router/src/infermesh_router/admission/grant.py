"""Permission to send one request to an endpoint, which counts as load there until it is released."""

from dataclasses import dataclass
from types import TracebackType
from typing import Self

from infermesh_router.fleet.endpoint import Endpoint
from infermesh_router.fleet.reports.sent_work import Lease
from infermesh_router.policy.choice import Choice


@dataclass(slots=True, eq=False)
class Grant:
    """A context manager: leaving it releases the grant."""

    endpoint: Endpoint
    reason: str
    """Why the policy chose this endpoint."""
    queued_s: float
    """How long the request waited, including the loading of its model."""
    loading_s: float
    """The part of queued_s in which its model was loaded."""
    lease: Lease
    choice: Choice | None = None
    """What the policy said, with the endpoints that it did not choose."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()

    def release(self) -> None:
        """The request has ended, successfully or not. Releasing twice is safe."""
        self.endpoint.release(self.lease)
