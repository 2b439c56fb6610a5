"""Makes a language model's answers: JSON and server-sent events for REST, responses for gRPC."""

import orjson

from infermesh.open_inference.v2 import open_inference_pb2 as oip
from infermesh_router.kserve.infer.grpc_answer import write_parameters
from infermesh_router.kserve.tensors.values import VERSION
from infermesh_router.kserve.text.convert import TextForm
from infermesh_router.kserve.text.schema import INPUT, OUTPUT
from infermesh_router.openai.answers.chunks import comment, data_event
from infermesh_router.openai.answers.events import BodySink, EventsSink
from infermesh_router.openai.answers.parsed import Answer
from infermesh_router.openai.answers.sinks import SendHeaders, Writer
from infermesh_router.openai.errors import rename_fields
from infermesh_router.openai.job import Job
from infermesh_runtime.answer_parsing.parts import Part, Text
from infermesh_runtime.errors import InfermeshError

SSE = "text/event-stream; charset=utf-8"
_FINAL = "triton_final_response"


class RestEvents:
    """Makes the server-sent events of one answer; it is an `Events`."""

    content_type = SSE

    def __init__(self, form: TextForm) -> None:
        self._head = orjson.dumps(head(form))[:-1] + b',"' + OUTPUT.encode() + b'":'

    def begin(self, answer: Answer) -> bytes:  # noqa: ARG002 - the signature of Events
        """Nothing: the first event has the first text."""
        return b""

    def wait(self, text: str) -> bytes:
        """A comment, which clients skip."""
        return comment(text)

    def part(self, part: Part, answer: Answer) -> bytes:  # noqa: ARG002
        """The event of new text."""
        if not isinstance(part, Text):
            return b""
        return b"data: " + self._head + orjson.dumps(part.text) + b"}\n\n"

    def end(self, answer: Answer) -> bytes:  # noqa: ARG002
        """Nothing, as with Triton."""
        return b""

    def fail(self, error: InfermeshError, answer: Answer) -> bytes:  # noqa: ARG002
        """The event of an error."""
        return data_event({"error": error.message})


class GrpcEvents:
    """Makes the serialised ModelStreamInferResponse messages of one answer; it is an `Events`."""

    content_type = ""

    def __init__(self, form: TextForm) -> None:
        self._form = form

    def begin(self, answer: Answer) -> bytes:  # noqa: ARG002 - the signature of Events
        """Nothing: the first response has the first text."""
        return b""

    def wait(self, text: str) -> bytes:  # noqa: ARG002
        """Nothing: responses have no comments."""
        return b""

    def part(self, part: Part, answer: Answer) -> bytes:  # noqa: ARG002
        """The response with new text."""
        if not isinstance(part, Text):
            return b""
        return streamed(text_response(self._form, part.text, is_final=False))

    def end(self, answer: Answer) -> bytes:  # noqa: ARG002
        """The empty last response, if it was asked for."""
        return streamed(text_response(self._form, None, is_final=True)) if self._form.ends_empty else b""

    def fail(self, error: InfermeshError, answer: Answer) -> bytes:  # noqa: ARG002
        """The response with an error."""
        return failed(error, self._form.id)


class TextDialect:
    """A `Dialect` for one text to continue."""

    def __init__(self, form: TextForm, events: RestEvents | GrpcEvents) -> None:
        self._form = form
        self._events = events

    def whole(self, job: Job, send_headers: SendHeaders) -> BodySink:
        """See `Dialect`."""
        return BodySink(
            lambda answer: head(self._form) | {OUTPUT: self._form.before + answer.text}, job.tools, send_headers
        )

    def streamed(self, job: Job, send_headers: SendHeaders, writer: Writer) -> EventsSink:
        """See `Dialect`."""
        return EventsSink(self._events, job.tools, send_headers, writer)

    def rename(self, error: InfermeshError, job: Job) -> InfermeshError:
        """See `Dialect`."""
        return rename_fields(error, {"text": INPUT, **job.field_names})


def head(form: TextForm) -> dict[str, str]:
    """What stands before the text."""
    named = {"model_name": form.model, "model_version": VERSION}
    return {"id": form.id, **named} if form.id else named


def text_response(form: TextForm, text: str | None, *, is_final: bool | None) -> oip.ModelInferResponse:
    """The response with a text; without one it has no outputs. `is_final` says whether it is a stream's last one."""
    response = oip.ModelInferResponse(
        model_name=form.model,
        model_version=VERSION,
        id=form.id,
        parameters={} if is_final is None else write_parameters({_FINAL: is_final}),
    )
    if text is not None:
        response.outputs.add(name=OUTPUT, datatype="BYTES", shape=[1])
        response.raw_output_contents.append(text_elements(text))
    return response


def text_elements(text: str) -> bytes:
    """The elements of a tensor of one text."""
    encoded = text.encode()
    return len(encoded).to_bytes(4, "little") + encoded


def streamed(response: oip.ModelInferResponse) -> bytes:
    """The serialised message of a stream."""
    return oip.ModelStreamInferResponse(infer_response=response).SerializeToString()


def failed(error: InfermeshError, request_id: str) -> bytes:
    """The serialised message that tells why a request of a stream failed."""
    response = oip.ModelInferResponse(id=request_id)
    return oip.ModelStreamInferResponse(error_message=error.message, infer_response=response).SerializeToString()
