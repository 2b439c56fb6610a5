"""Answers the calls about speech: converts the request, relays it to an endpoint, writes the answer as it comes."""

# ruff: noqa: ARG002 - RPCs have the contract's signatures

import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass

import grpc
import orjson
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2
from infermesh.openai.v1 import openai_pb2 as pb
from infermesh_router.access.access import Access
from infermesh_router.access.permissions import hide_models
from infermesh_router.access.visit import Visit
from infermesh_router.audio.convert import TextAnswer, convert_speech, convert_transcription, convert_translation
from infermesh_router.audio.hearing import HeardEvents, hear
from infermesh_router.audio.listing import list_audio_models, list_voices
from infermesh_router.audio.speaking import SpokenSound
from infermesh_router.openai.answerer import JSON, before_deadline, endpoint_headers, ignored_headers, write_stream
from infermesh_router.openai.conversion import AskedCall, BodyConverter, ConvertForm
from infermesh_router.openai.errors import rename_fields
from infermesh_router.openai.models import ModelDirectory
from infermesh_router.openai.reception import sent_by
from infermesh_router.relay.dispatcher import Dispatcher
from infermesh_router.relay.streams.event import StreamEvent
from infermesh_router.requests.query_string import read_query
from infermesh_runtime.errors import InfermeshError
from infermesh_runtime.rpc.context import RpcContext

LIMITED_CALLS = ("CreateTranscription", "CreateTranslation", "CreateSpeech")
"""Calls of OpenAIService that count for INFERMESH_MAX_CALLS."""
_FORM_NAMES = {"audio": "file", "samples": "file", "times": "timestamp_granularities"}
_BODY_NAMES = {"text": "input"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """One request whose body is converted."""

    asked: AskedCall
    context: RpcContext
    visit: Visit
    since_s: float
    names: Mapping[str, str]
    """The body's names of the fields of the native request."""

    async def begin(self, started: inference_pb2.AudioStarted) -> None:
        """Sends the headers."""
        headers = [*endpoint_headers(started), *self.visit.headers, *ignored_headers(self.asked.ignored)]
        await self.context.send_initial_metadata(headers)

    def rename(self, error: InfermeshError) -> InfermeshError:
        """An error with the body's names of fields."""
        return rename_fields(error, self.names)


class AudioServicer:
    """The calls of OpenAIService about speech. They get serialised bodies."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        access: Access,
        converter: BodyConverter,
        directory: ModelDirectory,
        make_report: Callable[[], inference_pb2.HealthReport],
    ) -> None:
        self._dispatcher = dispatcher
        self._access = access
        self._converter = converter
        self._directory = directory
        self._make_report = make_report

    async def CreateTranscription(self, request: bytes, context: RpcContext) -> None:
        """The text of speech, in its own language."""
        await self._hear(convert_transcription, request, context)

    async def CreateTranslation(self, request: bytes, context: RpcContext) -> None:
        """The text of speech, in English."""
        await self._hear(convert_translation, request, context)

    async def CreateSpeech(self, request: bytes, context: RpcContext) -> None:
        """The sound of a text."""
        since_s = time.perf_counter()
        with self._access.entered(context) as visit:
            converted = await self._converter.asked(convert_speech, request, sent_by(context))
            asked = _Asked(asked=converted, context=context, visit=visit, since_s=since_s, names=_BODY_NAMES)
            sink = SpokenSound(converted.extra, asked.begin, context)
            await write_stream(self._tell(asked, sink.take), sink, context, rename=asked.rename)

    async def ListVoices(self, request: pb.ListVoicesRequest, context: RpcContext) -> HttpBody:
        """The voices of one model, or of all that the caller may use."""
        report = self._report_for(context)
        model = read_query(context).get("model", "")
        if model:
            self._directory.find(report, model)
        return _json(list_voices(report, model))

    async def ListAudioModels(self, request: pb.ListAudioModelsRequest, context: RpcContext) -> HttpBody:
        """The models that speak or transcribe."""
        return _json(list_audio_models(self._report_for(context)))

    async def _hear(self, convert: ConvertForm, request: bytes, context: RpcContext) -> None:
        since_s = time.perf_counter()
        with self._access.entered(context) as visit:
            converted = await self._converter.form(convert, request, sent_by(context))
            del request  # the call has its own copy
            answer: TextAnswer = converted.extra
            asked = _Asked(asked=converted, context=context, visit=visit, since_s=since_s, names=_FORM_NAMES)
            if answer.stream:
                sink = HeardEvents(asked.begin, context)
                await write_stream(self._tell(asked, sink.take), sink, context, rename=asked.rename)
                return
            try:
                async with self._events(asked, context.time_remaining()) as events:
                    body = await hear(events, asked.begin, answer)
            except InfermeshError as error:
                raise asked.rename(error) from error
            await context.write(body)

    async def _tell(self, asked: _Asked, take: Callable[..., Awaitable[None]]) -> None:
        """Hands the events of a call to what writes them."""
        async with (
            before_deadline(asked.context.time_remaining()) as timeout_s,
            self._events(asked, timeout_s) as events,
        ):
            async for _, content in events:
                await take(content)

    @asynccontextmanager
    async def _events(self, asked: _Asked, timeout_s: float | None) -> AsyncIterator[AsyncIterator[StreamEvent]]:
        """The events of a call, counted for its key."""
        call = asked.visit.admit(asked.asked.call)
        asked.context.body.keep(len(call.body))
        ignored = asked.asked.ignored
        async with (
            self._dispatcher.speech(call, timeout_s, since_s=asked.since_s, ignored=ignored) as events,
            aclosing(_counted(events, asked.visit)) as counted,
        ):
            yield counted

    def _report_for(self, context: RpcContext) -> inference_pb2.HealthReport:
        """The router's report with the models that the caller may use."""
        return hide_models(self._access.identify(context), self._make_report())


async def _counted(events: AsyncIterator[StreamEvent], visit: Visit) -> AsyncGenerator[StreamEvent]:
    async for event in events:
        if event[1].HasField("finished"):
            visit.count_speech(event[1])
        yield event


def audio_handlers(servicer: AudioServicer) -> dict[str, grpc.RpcMethodHandler]:
    """The methods of OpenAIService. They get their bodies serialised, so that they can be read in another process."""
    serialise = HttpBody.SerializeToString
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    return {
        "CreateTranscription": stream(servicer.CreateTranscription, None, serialise),
        "CreateTranslation": stream(servicer.CreateTranslation, None, serialise),
        "CreateSpeech": stream(servicer.CreateSpeech, None, _serialise_or_pass),
        "ListVoices": unary(servicer.ListVoices, pb.ListVoicesRequest.FromString, serialise),
        "ListAudioModels": unary(servicer.ListAudioModels, pb.ListAudioModelsRequest.FromString, serialise),
    }


def _serialise_or_pass(message: HttpBody | bytes) -> bytes:
    return message if isinstance(message, bytes) else bytes(message.SerializeToString())


def _json(document: dict[str, object]) -> HttpBody:
    return HttpBody(content_type=JSON, data=orjson.dumps(document))
