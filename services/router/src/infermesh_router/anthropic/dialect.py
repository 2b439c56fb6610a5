"""Anthropic's dialect: one message, or its events as they come."""

from infermesh_router.anthropic.answers import MessageMaker
from infermesh_router.anthropic.convert import Limits
from infermesh_router.anthropic.errors import rename_error
from infermesh_router.anthropic.events import MessageEvents
from infermesh_router.openai.answers.events import BodySink, EventsSink
from infermesh_router.openai.answers.sinks import SendHeaders, Writer
from infermesh_router.openai.job import Job
from infermesh_runtime.errors import InfermeshError


class AnthropicDialect:
    """A `Dialect` for one request to /v1/messages."""

    def __init__(self, limits: Limits, request_id: str) -> None:
        self._limits = limits
        self._request_id = request_id

    def whole(self, job: Job, send_headers: SendHeaders) -> BodySink:
        """See `Dialect`."""
        make = MessageMaker(job, self._limits).whole
        return BodySink(make, job.tools, send_headers, single_call=job.single_call)

    def streamed(self, job: Job, send_headers: SendHeaders, writer: Writer) -> EventsSink:
        """See `Dialect`."""
        events = MessageEvents(MessageMaker(job, self._limits), self._request_id)
        return EventsSink(events, job.tools, send_headers, writer, single_call=job.single_call)

    def rename(self, error: InfermeshError, job: Job) -> InfermeshError:
        """See `Dialect`."""
        return rename_error(error, job)
