"""GRPCInferenceService: the Open Inference Protocol over gRPC, with Triton's extensions."""

# ruff: noqa: ARG002 - RPCs have the contract's signatures

from collections.abc import AsyncIterator

import grpc

from infermesh.open_inference.v2 import open_inference_pb2 as oip
from infermesh_router.kserve.carrying import Carrying
from infermesh_router.kserve.desk import Desk
from infermesh_router.kserve.infer.grpc_answer import write_grpc
from infermesh_router.kserve.infer.grpc_request import read_grpc, read_id
from infermesh_router.kserve.tensors.values import InferAnswer, InferAsk
from infermesh_router.kserve.tensors.wire import opening
from infermesh_router.kserve.text.answers import failed
from infermesh_router.requests.bounds import Bounds
from infermesh_router.requests.parsing_pool import ParsingPool
from infermesh_runtime.errors import InfermeshError, ModelNotFound
from infermesh_runtime.rpc.context import RpcContext

SERVICE = oip.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name
LIMITED_CALLS = ("ModelInfer", "ModelStreamInfer")
"""Calls that count for INFERMESH_MAX_CALLS."""
_RESPONSE = oip.ModelStreamInferResponse.INFER_RESPONSE_FIELD_NUMBER


class OpenInferenceServicer:
    """GRPCInferenceService over all endpoints."""

    def __init__(self, desk: Desk, carrying: Carrying, *, bounds: Bounds, pool: ParsingPool) -> None:
        self._desk = desk
        self._carrying = carrying
        self._bounds = bounds
        self._pool = pool

    async def ServerLive(self, request: oip.ServerLiveRequest, context: RpcContext) -> oip.ServerLiveResponse:
        """A sign of life."""
        return oip.ServerLiveResponse(live=True)

    async def ServerReady(self, request: oip.ServerReadyRequest, context: RpcContext) -> oip.ServerReadyResponse:
        """Whether a request could be served now."""
        return oip.ServerReadyResponse(ready=self._desk.is_ready())

    async def ModelReady(self, request: oip.ModelReadyRequest, context: RpcContext) -> oip.ModelReadyResponse:
        """Whether a model is loaded. One that does not exist is not ready, as with Triton."""
        try:
            ready = self._desk.is_model_ready(request.name, request.version, context)
        except ModelNotFound:
            ready = False
        return oip.ModelReadyResponse(ready=ready)

    async def ServerMetadata(
        self, request: oip.ServerMetadataRequest, context: RpcContext
    ) -> oip.ServerMetadataResponse:
        """What the server is."""
        return self._desk.server()

    async def ModelMetadata(self, request: oip.ModelMetadataRequest, context: RpcContext) -> oip.ModelMetadataResponse:
        """A model's inputs and outputs."""
        return self._desk.metadata(request.name, request.version, context)

    async def ModelConfig(self, request: oip.ModelConfigRequest, context: RpcContext) -> oip.ModelConfigResponse:
        """A model's configuration."""
        return oip.ModelConfigResponse(config=self._desk.config(request.name, request.version, context))

    async def ModelStatistics(
        self, request: oip.ModelStatisticsRequest, context: RpcContext
    ) -> oip.ModelStatisticsResponse:
        """What was asked of models."""
        return self._desk.statistics(request.name, request.version, context)

    async def ModelInfer(self, request: bytes, context: RpcContext) -> bytes:
        """Runs a model once."""
        reading = read_grpc(request, self._bounds, self._pool)
        del request
        form, answer, headers = await self._carrying.infer(reading, context)
        if headers:
            await context.send_initial_metadata(headers)
        return await write_grpc(form, answer, self._pool)

    async def ModelStreamInfer(self, requests: AsyncIterator[bytes], context: RpcContext) -> None:
        """Runs models as requests come. One that fails is answered by an error message, and the stream goes on."""

        async def write_answer(form: InferAsk, answer: InferAnswer) -> None:
            response = await write_grpc(form, answer, self._pool)
            await context.write(opening(_RESPONSE, len(response)) + response)

        await context.ensure_initial_metadata()  # Envoy waits for the end of the requests until the answer begins
        # not `requests`, which holds each request until the next one comes; an idle stream holds none
        while (request := await context.read()) is not grpc.aio.EOF:
            request_id = read_id(request)
            try:
                context.body.arrived(len(request))
                reading = read_grpc(request, self._bounds, self._pool)
                request = None
                await self._carrying.stream(reading, context.write, write_answer, context)
            except InfermeshError as error:
                await context.write(failed(error, request_id))
            finally:
                request = None
                context.body.keep(0)

    async def RepositoryIndex(
        self, request: oip.RepositoryIndexRequest, context: RpcContext
    ) -> oip.RepositoryIndexResponse:
        """Lists models."""
        return self._desk.index(request.repository_name, context, ready=request.ready)

    async def RepositoryModelLoad(
        self, request: oip.RepositoryModelLoadRequest, context: RpcContext
    ) -> oip.RepositoryModelLoadResponse:
        """Loads a model."""
        await self._desk.load(request, context)
        return oip.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(
        self, request: oip.RepositoryModelUnloadRequest, context: RpcContext
    ) -> oip.RepositoryModelUnloadResponse:
        """Unloads a model."""
        await self._desk.unload(request, context)
        return oip.RepositoryModelUnloadResponse()

    async def SystemSharedMemoryStatus(
        self, request: oip.SystemSharedMemoryStatusRequest, context: RpcContext
    ) -> oip.SystemSharedMemoryStatusResponse:
        """Lists regions."""
        return self._desk.regions(request.name, context)

    async def SystemSharedMemoryRegister(
        self, request: oip.SystemSharedMemoryRegisterRequest, context: RpcContext
    ) -> oip.SystemSharedMemoryRegisterResponse:
        """Registers a region."""
        self._desk.register(request, context)
        return oip.SystemSharedMemoryRegisterResponse()

    async def SystemSharedMemoryUnregister(
        self, request: oip.SystemSharedMemoryUnregisterRequest, context: RpcContext
    ) -> oip.SystemSharedMemoryUnregisterResponse:
        """Ends the registration of regions."""
        self._desk.unregister(request, context)
        return oip.SystemSharedMemoryUnregisterResponse()


def open_inference_handlers(servicer: OpenInferenceServicer) -> dict[str, grpc.RpcMethodHandler]:
    """The service's methods. Those that carry tensors have no serialisers: they work on bytes."""
    handlers = {
        "ModelInfer": grpc.unary_unary_rpc_method_handler(servicer.ModelInfer),
        "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(servicer.ModelStreamInfer),
    }
    for method in oip.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods:
        if method.name not in handlers:
            request, response = getattr(oip, method.input_type.name), getattr(oip, method.output_type.name)
            handlers[method.name] = grpc.unary_unary_rpc_method_handler(
                getattr(servicer, method.name), request.FromString, response.SerializeToString
            )
    return handlers
