"""OpenAIService: takes OpenAI's request bodies, answers with bodies or server-sent events. Envoy handles HTTP."""

# ruff: noqa: ARG002 - RPCs have the contract's signatures

import asyncio
import logging
import time
from collections.abc import Callable
from urllib.parse import quote, unquote

import grpc
import orjson
from google.api.httpbody_pb2 import HttpBody
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from infermesh.inference.v1 import inference_pb2
from infermesh.openai.v1 import openai_pb2 as pb
from infermesh_router.access.access import Access
from infermesh_router.access.permissions import hide_models
from infermesh_router.access.visit import Visit
from infermesh_router.fleet.report import DEVICES
from infermesh_router.openai.answers.sinks import SendHeaders, SseSink, WholeSink
from infermesh_router.openai.conversion import BodyConverter, Converted, Sent
from infermesh_router.openai.errors import error_object, rename_field, rename_fields
from infermesh_router.openai.generations import run_generations
from infermesh_router.openai.job import Job
from infermesh_router.openai.models import ModelDirectory, list_models
from infermesh_router.openai.packed_body import encoding_of
from infermesh_router.openai.sampling import sampling_header
from infermesh_router.openai.token_servicer import TokenServicer
from infermesh_router.policy.filters import RETRY_AFTER_S
from infermesh_router.policy.snapshot import DeviceKind
from infermesh_router.relay.dispatcher import Dispatcher
from infermesh_runtime.errors import DeadlineExceeded, InfermeshError, Internal, Unavailable
from infermesh_runtime.rpc.context import RpcContext

_log = logging.getLogger(__name__)

JSON = "application/json"

DEPLOYMENT_KEY = "x-infermesh-deployment"

_MAX_HEADER_CHARS = 1000
_LAST_EVENT_S = 0.25
"""How long before its deadline a stream ends, at the most, so that its last event arrives."""


LIMITED_CALLS = ("CreateChatCompletion", "CreateCompletion", "Tokenize", "Detokenize", "ApplyTemplate")
"""Calls that count for INFERMESH_MAX_CALLS."""
SERVICE = pb.DESCRIPTOR.services_by_name["OpenAIService"].full_name


class OpenAIServicer:
    """OpenAIService over all endpoints of the dispatcher."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        *,
        access: Access,
        make_report: Callable[[], inference_pb2.HealthReport],
        registry: CollectorRegistry,
        converter: BodyConverter,
        directory: ModelDirectory,
    ) -> None:
        self._directory = directory
        self._dispatcher = dispatcher
        self._access = access
        self._make_report = make_report
        self._registry = registry
        self._converter = converter
        self.tokens = TokenServicer(dispatcher, access=access, converter=converter)
        """Its calls that ask about tokens."""

    async def CreateChatCompletion(self, request: bytes, context: RpcContext) -> None:
        """Answers a chat."""
        since_s = time.perf_counter()
        with self._access.entered(context) as visit:
            converted = await self._converter.chat(request, _sent(context))
            del request  # the job has its own copy of what is needed
            await self._answer(converted, context, visit, since_s)

    async def CreateCompletion(self, request: bytes, context: RpcContext) -> None:
        """Completes prompts."""
        since_s = time.perf_counter()
        with self._access.entered(context) as visit:
            converted = await self._converter.completion(request, _sent(context))
            del request
            await self._answer(converted, context, visit, since_s)

    async def ListModels(self, request: pb.ListModelsRequest, context: RpcContext) -> HttpBody:
        """Lists the models that can answer the caller, at once or after loading."""
        return _json(list_models(self._report_for(context), self._directory.aliases()))

    async def GetModel(self, request: pb.GetModelRequest, context: RpcContext) -> HttpBody:
        """Describes one of them."""
        return _json(self._directory.find(self._report_for(context), request.model))

    async def GetHealth(self, request: pb.GetHealthRequest, context: RpcContext) -> HttpBody:
        """Answers if a request could be served now. Raises Unavailable if not."""
        report = self._make_report()
        if report.state != inference_pb2.ENDPOINT_STATE_READY:
            raise Unavailable(
                f"No endpoint is ready: {report.message}.", reason="NO_ENDPOINT", retry_after_s=RETRY_AFTER_S
            )
        return _json({"status": "ok"})

    async def GetVersion(self, request: pb.GetVersionRequest, context: RpcContext) -> HttpBody:
        """The router's version."""
        return _json({"version": self._make_report().version})

    async def Ping(self, request: pb.PingRequest, context: RpcContext) -> HttpBody:
        """A sign of life."""
        return _json({"status": "ok"})

    async def GetMetrics(self, request: pb.GetMetricsRequest, context: RpcContext) -> HttpBody:
        """The router's metrics in Prometheus' text format."""
        self._access.identify(context)
        return HttpBody(content_type=CONTENT_TYPE_LATEST, data=generate_latest(self._registry))

    async def _answer(self, converted: Converted, context: RpcContext, visit: Visit, since_s: float) -> None:
        job = converted.job
        context.body.keep(sum(len(call.body) for call in job.calls))
        answer = self._stream if job.stream else self._answer_whole
        try:
            await answer(job, _header_sender(context, converted.ignored, visit), context, visit, since_s)
        except InfermeshError as error:
            raise rename_fields(error, job.field_names) from error

    async def _answer_whole(
        self, job: Job, send_headers: SendHeaders, context: RpcContext, visit: Visit, since_s: float
    ) -> None:
        sink = WholeSink(job, send_headers)
        timeout_s = _shorter(context.time_remaining(), job.deadline_s)
        await run_generations(self._dispatcher, job, sink, visit=visit, timeout_s=timeout_s, since_s=since_s)
        await context.write(HttpBody(content_type=JSON, data=sink.body()))

    async def _stream(
        self, job: Job, send_headers: SendHeaders, context: RpcContext, visit: Visit, since_s: float
    ) -> None:
        """Raises errors until the headers are sent; after that it writes them as events, whatever ends the stream."""
        sink = SseSink(job, send_headers, context)
        try:
            await self._run_until_deadline(job, sink, context, visit, since_s)
        except InfermeshError as error:
            await _fail(sink, rename_fields(error, job.field_names))
        except asyncio.CancelledError:
            if (ending := context.ending()) is None:
                raise
            await _fail(sink, ending)
        except grpc.aio.InternalError:  # a write raises this when the client is gone
            raise
        except Exception:
            if not sink.begun:
                raise
            _log.exception("a stream failed")
            await sink.fail(error_object(Internal("Internal error.")))
        else:
            await sink.end()

    def _report_for(self, context: RpcContext) -> inference_pb2.HealthReport:
        """The router's report with the models that the caller may use."""
        return hide_models(self._access.identify(context), self._make_report())

    async def _run_until_deadline(
        self, job: Job, sink: SseSink, context: RpcContext, visit: Visit, since_s: float
    ) -> None:
        """Raises DeadlineExceeded early enough that it can still be sent: at the deadline, gRPC cuts the stream."""
        remaining_s = _shorter(context.time_remaining(), job.deadline_s)
        timeout_s = None if remaining_s is None else remaining_s - min(_LAST_EVENT_S, remaining_s / 10)
        try:
            async with asyncio.timeout(timeout_s):
                await run_generations(self._dispatcher, job, sink, visit=visit, timeout_s=timeout_s, since_s=since_s)
        except TimeoutError:
            raise DeadlineExceeded("The request's deadline passed before its answer was complete.") from None


async def _fail(sink: SseSink, error: InfermeshError) -> None:
    """Writes the error as the stream's last event. Raises it if nothing was sent yet."""
    if not sink.begun:
        raise error
    _log.warning("a stream ended with an error: %s", error.message, extra={"reason": error.reason})
    await sink.fail(error_object(error))


def openai_handlers(servicer: OpenAIServicer) -> dict[str, grpc.RpcMethodHandler]:
    """The service's methods. Those that take a body get it serialised, so that it can be read in another process."""
    serialise = HttpBody.SerializeToString
    return {
        "CreateChatCompletion": grpc.unary_stream_rpc_method_handler(servicer.CreateChatCompletion, None, serialise),
        "CreateCompletion": grpc.unary_stream_rpc_method_handler(servicer.CreateCompletion, None, serialise),
        "Tokenize": grpc.unary_unary_rpc_method_handler(servicer.tokens.Tokenize, None, serialise),
        "Detokenize": grpc.unary_unary_rpc_method_handler(servicer.tokens.Detokenize, None, serialise),
        "ApplyTemplate": grpc.unary_unary_rpc_method_handler(servicer.tokens.ApplyTemplate, None, serialise),
        "GetVersion": grpc.unary_unary_rpc_method_handler(
            servicer.GetVersion, pb.GetVersionRequest.FromString, serialise
        ),
        "Ping": grpc.unary_unary_rpc_method_handler(servicer.Ping, pb.PingRequest.FromString, serialise),
        "ListModels": grpc.unary_unary_rpc_method_handler(
            servicer.ListModels, pb.ListModelsRequest.FromString, serialise
        ),
        "GetModel": grpc.unary_unary_rpc_method_handler(servicer.GetModel, pb.GetModelRequest.FromString, serialise),
        "GetHealth": grpc.unary_unary_rpc_method_handler(servicer.GetHealth, pb.GetHealthRequest.FromString, serialise),
        "GetMetrics": grpc.unary_unary_rpc_method_handler(
            servicer.GetMetrics, pb.GetMetricsRequest.FromString, serialise
        ),
    }


def _sent(context: RpcContext) -> Sent:
    return Sent(encoding=encoding_of(context), share=context.body, model=_deployment(context))


def _deployment(context: RpcContext) -> str:
    """The model that a path in Azure's form names, which Envoy puts into a header; "" for other paths."""
    named = (value for key, value in context.invocation_metadata() if key == DEPLOYMENT_KEY)
    return unquote(next(named, ""))


def _shorter(remaining_s: float | None, deadline_s: float | None) -> float | None:
    """The shorter of two times; None stands for no limit."""
    given = [time_s for time_s in (remaining_s, deadline_s) if time_s is not None]
    return min(given, default=None)


def _json(document: dict[str, object]) -> HttpBody:
    return HttpBody(content_type=JSON, data=orjson.dumps(document))


def _header_sender(context: RpcContext, ignored: tuple[str, ...], visit: Visit) -> SendHeaders:
    """Sends headers: which endpoint answers and why, how long that took so far, ignored fields, and rate limits."""

    async def send_headers(started: inference_pb2.Started) -> None:
        headers = [
            ("x-infermesh-endpoint", started.endpoint),
            ("x-infermesh-device", DEVICES.get(started.device, DeviceKind.UNKNOWN)),
            ("x-infermesh-reason", started.reason),
            ("x-infermesh-queued-ms", str(started.queued_ms)),
            ("x-infermesh-overhead-ms", f"{started.overhead_ms:.1f}"),
            *visit.headers,
        ]
        if started.HasField("in_use"):
            headers.append(("x-infermesh-sampling", sampling_header(started.in_use)))
        if started.loading_ms:
            headers.append(("x-infermesh-loading-ms", str(started.loading_ms)))
        paths = (*ignored, *(rename_field(path, {}) for path in started.ignored_fields))
        if paths:
            shown = ",".join(quote(path, safe="[]") for path in dict.fromkeys(paths))
            headers.append(("x-infermesh-ignored-fields", shown[:_MAX_HEADER_CHARS]))
        await context.send_initial_metadata(headers)

    return send_headers
