"""OllamaService: takes Ollama's request bodies, answers with bodies or lines of JSON. Envoy handles HTTP."""

# ruff: noqa: ARG002 - RPCs have the contract's signatures

from collections.abc import Callable

import grpc
import orjson
from google.api.httpbody_pb2 import HttpBody

from infermesh.inference.v1 import inference_pb2
from infermesh.ollama.v1 import ollama_pb2 as pb
from infermesh_router.access.access import Access
from infermesh_router.access.permissions import hide_models
from infermesh_router.ollama.answers import LINES
from infermesh_router.ollama.asking import Asking
from infermesh_router.ollama.convert import convert_chat, convert_generate
from infermesh_router.ollama.listing.loaded_models import LoadedModels
from infermesh_router.ollama.listing.models import known_name, list_running, list_tags, model_names, show_model
from infermesh_router.ollama.refused import CALLS, not_offered
from infermesh_router.ollama.small_bodies import read_named_model
from infermesh_router.openai.answerer import JSON
from infermesh_router.openai.models import ModelDirectory
from infermesh_router.openai.packed_body import encoding_of
from infermesh_runtime.rpc.context import RpcContext

API_VERSION = "0.12.0"
"""The version of Ollama whose API this is. Clients offer what they know of it, and refuse older ones."""

LIMITED_CALLS = ("Chat", "Generate")
"""Calls that count for INFERMESH_MAX_CALLS."""
SERVICE = pb.DESCRIPTOR.services_by_name["OllamaService"].full_name


class OllamaServicer:
    """OllamaService over all endpoints."""

    def __init__(
        self,
        asking: Asking,
        *,
        access: Access,
        make_report: Callable[[], inference_pb2.HealthReport],
        directory: ModelDirectory,
        loaded: LoadedModels,
    ) -> None:
        self._asking = asking
        self._access = access
        self._make_report = make_report
        self._directory = directory
        self._loaded = loaded

    async def Chat(self, request: bytes, context: RpcContext) -> None:
        """Answers a chat."""
        await self._asking.answer(convert_chat, request, context)

    async def Generate(self, request: bytes, context: RpcContext) -> None:
        """Answers or continues a prompt."""
        await self._asking.answer(convert_generate, request, context)

    async def ListModels(self, request: pb.ListModelsRequest, context: RpcContext) -> HttpBody:
        """Lists the models that can answer the caller, at once or after loading."""
        return _json(list_tags(self._report_for(context), self._directory.aliases()))

    async def ShowModel(self, request: bytes, context: RpcContext) -> HttpBody:
        """Describes one of them."""
        report, body = self._report_for(context), read_named_model(request, encoding_of(context))
        return _json(show_model(report, body.model or body.name or "", self._directory.aliases()))

    async def ListRunning(self, request: pb.ListRunningRequest, context: RpcContext) -> HttpBody:
        """Lists those that are loaded."""
        aliases = self._directory.aliases()
        on_accelerator = self._loaded.is_on_accelerator
        return _json(list_running(self._report_for(context), aliases=aliases, on_accelerator=on_accelerator))

    async def GetVersion(self, request: pb.GetVersionRequest, context: RpcContext) -> HttpBody:
        """The version of Ollama whose API this is."""
        return _json({"version": API_VERSION, "infermesh": self._make_report().version})

    async def PullModel(self, request: bytes, context: RpcContext) -> HttpBody:
        """Succeeds for a model that is there: clients pull before they ask. Raises Unimplemented for others."""
        report, body = self._report_for(context), read_named_model(request, encoding_of(context))
        if known_name(report, body.model or body.name or "") not in model_names(report):
            raise not_offered("PullModel")
        if body.stream is False:
            return _json({"status": "success"})
        lines = [orjson.dumps({"status": status}) + b"\n" for status in ("pulling manifest", "success")]
        return HttpBody(content_type=LINES, data=b"".join(lines))

    def _report_for(self, context: RpcContext) -> inference_pb2.HealthReport:
        """The router's report with the models that the caller may use."""
        return hide_models(self._access.identify(context), self._make_report())


def ollama_handlers(servicer: OllamaServicer) -> dict[str, grpc.RpcMethodHandler]:
    """The service's methods. Those that take a body get it serialised, so that it can be read in another process."""
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    serialise = HttpBody.SerializeToString
    return {
        **{name: unary(_refuser(name), None, serialise) for name in CALLS},
        "Chat": stream(servicer.Chat, None, serialise),
        "Generate": stream(servicer.Generate, None, serialise),
        "ListModels": unary(servicer.ListModels, pb.ListModelsRequest.FromString, serialise),
        "ShowModel": unary(servicer.ShowModel, None, serialise),
        "ListRunning": unary(servicer.ListRunning, pb.ListRunningRequest.FromString, serialise),
        "GetVersion": unary(servicer.GetVersion, pb.GetVersionRequest.FromString, serialise),
        "PullModel": unary(servicer.PullModel, None, serialise),
    }


def _refuser(call: str) -> Callable[[bytes, RpcContext], object]:
    """A method that refuses its call."""

    async def refuse(_request: bytes, _context: RpcContext) -> HttpBody:
        raise not_offered(call)

    return refuse


def _json(document: dict[str, object]) -> HttpBody:
    return HttpBody(content_type=JSON, data=orjson.dumps(document))
