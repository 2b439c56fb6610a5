"""KServeService: the Open Inference Protocol over REST, with Triton's extensions. Envoy handles HTTP."""

# ruff: noqa: ARG002 - RPCs have the contract's signatures

from functools import partial
from urllib.parse import quote

import grpc
from google.api.httpbody_pb2 import HttpBody

from infermesh.kserve.v1 import kserve_pb2 as pb
from infermesh.open_inference.v2 import open_inference_pb2 as oip
from infermesh_router.kserve.bodies import JSON_BYTES_KEY, Arrived, part, read_model_body
from infermesh_router.kserve.carrying import Carrying
from infermesh_router.kserve.commands import read_flags, read_load, read_region
from infermesh_router.kserve.desk import Desk
from infermesh_router.kserve.documents import json_body, to_document
from infermesh_router.kserve.infer.json_answer import write_rest
from infermesh_router.kserve.infer.json_request import read_rest
from infermesh_router.kserve.infer.parameters import check_version
from infermesh_router.kserve.tensors.values import InferAsk
from infermesh_router.kserve.text.asking import TextAsking
from infermesh_router.kserve.text.convert import convert_stream, convert_whole
from infermesh_router.openai.bodies import BodyRules
from infermesh_router.openai.conversion import Convert, Sent
from infermesh_router.openai.packed_body import encoding_of
from infermesh_router.requests.parsing_pool import ParsingPool
from infermesh_runtime.errors import FailedPrecondition
from infermesh_runtime.rpc.context import RpcContext

SERVICE = pb.DESCRIPTOR.services_by_name["KServeService"].full_name
LIMITED_CALLS = ("Infer", "Generate", "GenerateStream")
"""Calls that count for INFERMESH_MAX_CALLS."""
_MAX_HEADER_CHARS = 1000


class KServeServicer:
    """KServeService over all endpoints."""

    def __init__(
        self, desk: Desk, carrying: Carrying, texts: TextAsking, *, rules: BodyRules, pool: ParsingPool
    ) -> None:
        self._desk = desk
        self._carrying = carrying
        self._texts = texts
        self._rules = rules
        self._pool = pool

    async def GetServer(self, request: pb.GetServerRequest, context: RpcContext) -> HttpBody:
        """What the server is."""
        return json_body(to_document(self._desk.server()))

    async def GetLive(self, request: pb.GetLiveRequest, context: RpcContext) -> HttpBody:
        """A sign of life. KServe's own client reads the body, Triton's only the status."""
        return json_body({"live": True})

    async def GetReady(self, request: pb.GetReadyRequest, context: RpcContext) -> HttpBody:
        """Answers if a request could be served now. Raises FailedPrecondition, the protocol's 400, if not."""
        if not self._desk.is_ready():
            raise FailedPrecondition("No endpoint is ready.", reason="NO_ENDPOINT")
        return json_body({"ready": True})

    async def GetModel(self, request: pb.ModelRequest, context: RpcContext) -> HttpBody:
        """A model's inputs and outputs."""
        return json_body(to_document(self._desk.metadata(request.model, request.version, context)))

    async def GetModelReady(self, request: pb.ModelRequest, context: RpcContext) -> HttpBody:
        """Answers if a model is loaded. Raises FailedPrecondition if not."""
        if not self._desk.is_model_ready(request.model, request.version, context):
            raise FailedPrecondition(f"The model '{request.model}' is not loaded.", reason="MODEL_NOT_LOADED")
        return json_body({"name": request.model, "ready": True})

    async def GetModelConfig(self, request: pb.ModelRequest, context: RpcContext) -> HttpBody:
        """A model's configuration."""
        return json_body(to_document(self._desk.config(request.model, request.version, context)))

    async def GetStatistics(self, request: pb.ModelRequest, context: RpcContext) -> HttpBody:
        """What was asked of models."""
        return json_body(to_document(self._desk.statistics(request.model, request.version, context)))

    async def Infer(self, request: bytes, context: RpcContext) -> bytes:
        """Runs a model once."""
        arrived = read_model_body(request)
        del request
        reading = self._read(arrived, context)
        del arrived
        form, answer, headers = await self._carrying.infer(reading, context)
        body = await write_rest(form, answer, self._pool)
        told = [(JSON_BYTES_KEY, str(body.json_bytes))] if body.is_binary else []
        if form.ignored:
            told.append(("x-infermesh-ignored-fields", ",".join(map(quote, form.ignored))[:_MAX_HEADER_CHARS]))
        await context.send_initial_metadata((*headers, *told))
        return body.as_http_body()

    async def Generate(self, request: bytes, context: RpcContext) -> None:
        """Continues a text."""
        await self._generate(convert_whole, request, context)

    async def GenerateStream(self, request: bytes, context: RpcContext) -> None:
        """Continues a text in server-sent events."""
        await self._generate(convert_stream, request, context)

    async def ListRepository(self, request: pb.RepositoryBody, context: RpcContext) -> HttpBody:
        """Lists models."""
        index = self._desk.index("", context, ready=read_flags(request.content, "ready", context))
        return json_body([to_document(each) for each in index.models])

    async def LoadModel(self, request: pb.ModelBody, context: RpcContext) -> HttpBody:
        """Loads a model, for those who may."""
        await self._desk.load(read_load(request), context)
        return HttpBody()

    async def UnloadModel(self, request: pb.ModelBody, context: RpcContext) -> HttpBody:
        """Unloads a model, for those who may."""
        await self._desk.unload(oip.RepositoryModelUnloadRequest(model_name=request.model), context)
        return HttpBody()

    async def GetSharedMemory(self, request: pb.RegionRequest, context: RpcContext) -> HttpBody:
        """Lists regions."""
        regions = self._desk.regions(request.region, context).regions
        return json_body([to_document(regions[name]) for name in sorted(regions)])

    async def RegisterSharedMemory(self, request: pb.RegionBody, context: RpcContext) -> HttpBody:
        """Registers a region."""
        self._desk.register(read_region(request, context), context)
        return HttpBody()

    async def UnregisterSharedMemory(self, request: pb.RegionBody, context: RpcContext) -> HttpBody:
        """Ends the registration of regions."""
        self._desk.unregister(oip.SystemSharedMemoryUnregisterRequest(name=request.region), context)
        return HttpBody()

    async def _read(self, arrived: Arrived, context: RpcContext) -> InferAsk:
        parted = await part(arrived.content, context, self._rules, self._pool)
        read = partial(read_rest, arrived.model, arrived.version)
        return await read(parted.json, parted.binary, rules=self._rules, pool=self._pool)

    async def _generate(self, convert: Convert, request: bytes, context: RpcContext) -> None:
        arrived = read_model_body(request)
        del request
        check_version(arrived.model, arrived.version)
        sent = Sent(encoding=encoding_of(context), share=context.body, model=arrived.model)
        await self._texts.answer_rest(convert, bytes(arrived.content), sent, context)


def kserve_handlers(servicer: KServeServicer) -> dict[str, grpc.RpcMethodHandler]:
    """The service's methods. Those that carry tensors or texts work on bytes."""
    unary, stream = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler
    serialise = HttpBody.SerializeToString
    handlers = {
        "Infer": unary(servicer.Infer),
        "Generate": stream(servicer.Generate, None, serialise),
        "GenerateStream": stream(servicer.GenerateStream, None, serialise),
    }
    for method in pb.DESCRIPTOR.services_by_name["KServeService"].methods:
        if method.name not in handlers:
            request = getattr(pb, method.input_type.name)
            handlers[method.name] = unary(getattr(servicer, method.name), request.FromString, serialise)
    return handlers
