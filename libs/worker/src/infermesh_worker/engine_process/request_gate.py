"""What holds a request back until something that it needs is ready, so that the engine's steps never wait for it."""

from collections.abc import Iterator
from typing import Protocol

from infermesh_engine.requests.request import GenerationRequest
from infermesh_runtime.errors import InfermeshError


class RequestGate(Protocol):
    """Used from the engine's thread."""

    @property
    def waiting(self) -> int:
        """How many choices wait."""
        ...

    def hold(self, request: GenerationRequest) -> bool:
        """Whether the request must wait; `released` gives it back. Raises an InfermeshError if it can never pass."""
        ...

    def cancel(self, request_id: str) -> None:
        """Forgets a request."""
        ...

    def released(self) -> Iterator[tuple[GenerationRequest, InfermeshError | None]]:
        """The requests that need not wait any longer, or are refused with an error."""
        ...
