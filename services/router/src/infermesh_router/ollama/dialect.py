"""Ollama's dialect: one body, or lines of JSON."""

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_router.ollama.answers import OllamaAnswer
from infermesh_router.openai.answers.events import BodySink, EventsSink
from infermesh_router.openai.answers.sinks import SendHeaders, Writer
from infermesh_router.openai.errors import rename_fields
from infermesh_router.openai.job import Job
from infermesh_runtime.errors import InfermeshError


class OllamaDialect:
    """A `Dialect` for one request of /api/chat or /api/generate."""

    def __init__(self, answer: OllamaAnswer) -> None:
        self._answer = answer

    def whole(self, job: Job, send_headers: SendHeaders) -> BodySink:
        """See `Dialect`."""
        return BodySink(self._answer.body, job.tools, self._noting(send_headers))

    def streamed(self, job: Job, send_headers: SendHeaders, writer: Writer) -> EventsSink:
        """See `Dialect`."""
        return EventsSink(self._answer, job.tools, self._noting(send_headers), writer)

    def _noting(self, send_headers: SendHeaders) -> SendHeaders:
        """Sends the headers, and tells the answer that it begins."""

        async def send(started: pb.Started | None) -> None:
            if started is not None:
                self._answer.started()
            await send_headers(started)

        return send

    def rename(self, error: InfermeshError, job: Job) -> InfermeshError:
        """See `Dialect`."""
        return rename_fields(error, job.field_names)
