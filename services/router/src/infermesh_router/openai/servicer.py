"""OpenAIService: takes OpenAI's request bodies, answers with bodies or server-sent events. Envoy handles HTTP."""

# ruff: noqa: ARG002 - RPCs have the contract's signatures

import asyncio
from collections.abc import Callable
from functools import cache

import grpc
import orjson
from google.api.httpbody_pb2 import HttpBody
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest

from infermesh.inference.v1 import inference_pb2
from infermesh.openai.v1 import openai_pb2 as pb
from infermesh_router.access.access import Access
from infermesh_router.access.permissions import hide_models
from infermesh_router.openai.answerer import JSON, Answerer
from infermesh_router.openai.answers.openai_dialect import OpenAIDialect
from infermesh_router.openai.conversion import BodyConverter
from infermesh_router.openai.models import ModelDirectory, list_models
from infermesh_router.openai.props import show_props
from infermesh_router.openai.reception import received
from infermesh_router.openai.token_servicer import TokenServicer
from infermesh_router.policy.filters import RETRY_AFTER_S
from infermesh_router.requests.query_string import read_query
from infermesh_runtime.errors import Unavailable
from infermesh_runtime.rpc.context import RpcContext

_OPENAI = OpenAIDialect()

LIMITED_CALLS = ("CreateChatCompletion", "CreateCompletion", "Tokenize", "Detokenize", "ApplyTemplate")
"""Calls that count for INFERMESH_MAX_CALLS."""
SERVICE = pb.DESCRIPTOR.services_by_name["OpenAIService"].full_name


class OpenAIServicer:
    """OpenAIService over all endpoints."""

    def __init__(
        self,
        answerer: Answerer,
        *,
        access: Access,
        make_report: Callable[[], inference_pb2.HealthReport],
        registry: CollectorRegistry,
        converter: BodyConverter,
        directory: ModelDirectory,
        tokens: TokenServicer,
        describe: Callable[[], bytes],
    ) -> None:
        self._answerer = answerer
        self._directory = directory
        self._access = access
        self._make_report = make_report
        self._registry = registry
        self._converter = converter
        self._describe = cache(describe)
        self.tokens = tokens
        """Its calls that ask about tokens."""

    async def CreateChatCompletion(self, request: bytes, context: RpcContext) -> None:
        """Answers a chat."""
        async with received(self._access, context, request, self._converter.chat) as got:
            del request
            await self._answerer.answer(got.asked(_OPENAI))

    async def CreateCompletion(self, request: bytes, context: RpcContext) -> None:
        """Completes prompts."""
        async with received(self._access, context, request, self._converter.completion) as got:
            del request
            await self._answerer.answer(got.asked(_OPENAI))

    async def ListModels(self, request: pb.ListModelsRequest, context: RpcContext) -> HttpBody:
        """Lists the models that can answer the caller, at once or after loading."""
        return _json(list_models(self._report_for(context), self._directory.aliases()))

    async def GetModel(self, request: pb.GetModelRequest, context: RpcContext) -> HttpBody:
        """Describes one of them."""
        return _json(self._directory.find(self._report_for(context), request.model))

    async def GetProps(self, request: pb.GetPropsRequest, context: RpcContext) -> HttpBody:
        """What user interfaces for llama.cpp ask of a model."""
        model = read_query(context).get("model", "")
        return _json(show_props(self._report_for(context), model, self._directory.aliases()))

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

    async def GetOpenAPI(self, request: pb.GetOpenAPIRequest, context: RpcContext) -> HttpBody:
        """The description of this API."""
        return HttpBody(content_type=JSON, data=await asyncio.to_thread(self._describe))

    async def Ping(self, request: pb.PingRequest, context: RpcContext) -> HttpBody:
        """A sign of life."""
        return _json({"status": "ok"})

    async def GetMetrics(self, request: pb.GetMetricsRequest, context: RpcContext) -> HttpBody:
        """The router's metrics in Prometheus' text format."""
        self._access.identify(context)
        return HttpBody(content_type=CONTENT_TYPE_LATEST, data=generate_latest(self._registry))

    def _report_for(self, context: RpcContext) -> inference_pb2.HealthReport:
        """The router's report with the models that the caller may use."""
        return hide_models(self._access.identify(context), self._make_report())


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
        "GetOpenAPI": grpc.unary_unary_rpc_method_handler(
            servicer.GetOpenAPI, pb.GetOpenAPIRequest.FromString, serialise
        ),
        "Ping": grpc.unary_unary_rpc_method_handler(servicer.Ping, pb.PingRequest.FromString, serialise),
        "ListModels": grpc.unary_unary_rpc_method_handler(
            servicer.ListModels, pb.ListModelsRequest.FromString, serialise
        ),
        "GetModel": grpc.unary_unary_rpc_method_handler(servicer.GetModel, pb.GetModelRequest.FromString, serialise),
        "GetProps": grpc.unary_unary_rpc_method_handler(servicer.GetProps, pb.GetPropsRequest.FromString, serialise),
        "GetHealth": grpc.unary_unary_rpc_method_handler(servicer.GetHealth, pb.GetHealthRequest.FromString, serialise),
        "GetMetrics": grpc.unary_unary_rpc_method_handler(
            servicer.GetMetrics, pb.GetMetricsRequest.FromString, serialise
        ),
    }


def _json(document: dict[str, object]) -> HttpBody:
    return HttpBody(content_type=JSON, data=orjson.dumps(document))
