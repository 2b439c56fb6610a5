"""The events of a streamed response."""

from typing import Any

from infermesh_router.openai.answers.chunks import DONE, comment
from infermesh_router.openai.answers.parsed import Answer
from infermesh_router.openai.answers.sinks import EVENTS
from infermesh_router.openai.errors import error_object
from infermesh_router.openai.job import Job
from infermesh_router.responses.output import Output
from infermesh_router.responses.resource import failure, final_status, response_object
from infermesh_router.responses.told import Told
from infermesh_runtime.answer_parsing.parts import Part
from infermesh_runtime.errors import InfermeshError


class ResponseEvents:
    """`Events` of one response."""

    content_type = EVENTS

    def __init__(self, job: Job, told: Told) -> None:
        self._job = job
        self._told = told
        self._output = Output(logprobs=told.logprobs)
        self._closing = b""
        self._ended: dict[str, Any] | None = None
        self._begun = False
        self.answer = Answer()
        """The answer that the events are about."""

    def begin(self, answer: Answer) -> bytes:
        """The response as it begins, twice: OpenAI tells apart when it was made and when it began to run."""
        self.answer, self._begun = answer, True
        response = self._response("in_progress")
        created = self._output.event("response.created", {"response": response})
        return created + self._output.event("response.in_progress", {"response": response})

    def wait(self, text: str) -> bytes:
        """A comment, which clients skip."""
        return comment(text)

    def part(self, part: Part, answer: Answer) -> bytes:
        """The events of a new part."""
        return self._output.take(part, answer)

    def ended(self) -> dict[str, Any]:
        """The whole response, once the answer has ended."""
        if self._ended is None:
            status = final_status(self.answer)
            self._closing = self._output.finish(status)
            self._ended = self._response(status)
        return self._ended

    def end(self, answer: Answer) -> bytes:
        """Closes the last item, and tells the whole response."""
        self.answer = answer
        response = self.ended()
        return self._closing + self._output.event(f"response.{response['status']}", {"response": response}) + DONE

    def fail(self, error: InfermeshError, answer: Answer) -> bytes:
        """Tells an error, and the response as far as it came."""
        opening = b"" if self._begun else self.begin(answer)
        self.answer = answer
        told = error_object(error)["error"]
        shown = {name: told[name] for name in ("code", "message", "param")}
        data = opening + self._output.close("incomplete") + self._output.event("error", shown)
        failed = self._response("failed", failure(error.reason, error.message))
        return data + self._output.event("response.failed", {"response": failed}) + DONE

    def _response(self, status: str, error: dict[str, Any] | None = None) -> dict[str, Any]:
        items = self._output.items
        return response_object(self._job, self._told, self.answer, output=items, status=status, error=error)
