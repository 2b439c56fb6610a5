"""What a dialect of the REST API brings to answer a job: where its events go, and how its fields are called."""

from typing import Protocol

from infermesh_router.openai.answers.sinks import SendHeaders, Writer
from infermesh_router.openai.generations import Sink
from infermesh_router.openai.job import Job
from infermesh_runtime.errors import InfermeshError


class WholeAnswer(Sink, Protocol):
    """Gathers the events of an answer that is sent as one body."""

    def body(self) -> bytes:
        """The answer as JSON, once all events are there."""
        ...


class StreamedAnswer(Sink, Protocol):
    """Writes the events of an answer as they come."""

    @property
    def begun(self) -> bool:
        """Whether something was sent, so that an error can no longer be a status."""
        ...

    async def tell(self, text: str) -> None:
        """Tells the client what its request waits for, if this API has a way to; may be called before `begin`."""

    async def end(self) -> None:
        """Ends the answer."""

    async def fail(self, error: InfermeshError) -> None:
        """Ends an answer that failed after it had begun."""


class Dialect(Protocol):
    """Answers jobs in the words of one API. One object for each request, since it may hold what the answer repeats."""

    def whole(self, job: Job, send_headers: SendHeaders) -> WholeAnswer:
        """Where the events of an answer go that is not streamed."""
        ...

    def streamed(self, job: Job, send_headers: SendHeaders, writer: Writer) -> StreamedAnswer:
        """Where the events of a streamed answer go."""
        ...

    def rename(self, error: InfermeshError, job: Job) -> InfermeshError:
        """The error with this API's names of the fields."""
        ...
