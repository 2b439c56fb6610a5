"""OpenAI's own dialect: one body, or chunks as server-sent events."""

from infermesh_router.openai.answers.sinks import SendHeaders, SseSink, WholeSink, Writer
from infermesh_router.openai.errors import rename_fields
from infermesh_router.openai.job import Job
from infermesh_runtime.errors import InfermeshError


class OpenAIDialect:
    """A `Dialect` for /v1/chat/completions and /v1/completions; the job's shape tells them apart."""

    def whole(self, job: Job, send_headers: SendHeaders) -> WholeSink:
        """See `Dialect`."""
        return WholeSink(job, send_headers)

    def streamed(self, job: Job, send_headers: SendHeaders, writer: Writer) -> SseSink:
        """See `Dialect`."""
        return SseSink(job, send_headers, writer)

    def rename(self, error: InfermeshError, job: Job) -> InfermeshError:
        """See `Dialect`."""
        return rename_fields(error, job.field_names)
