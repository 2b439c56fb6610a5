"""Serves the router's EndpointService: loads and unloads models on the fleet, and drains the router itself."""

from collections.abc import Awaitable, Callable

from infermesh.admin.v1 import admin_pb2 as pb
from infermesh.admin.v1 import admin_pb2_grpc as pb_grpc
from infermesh_router.admission.gate import Gate
from infermesh_router.placement.model_commands import ModelCommands
from infermesh_router.siblings.sibling_calls import is_sibling, told_endpoint
from infermesh_runtime.rpc.audit import audited
from infermesh_runtime.rpc.context import RpcContext


class EndpointServicer(pb_grpc.EndpointServiceServicer):
    """EndpointService over a fleet. `set_serving` sets the health that probes of the router see."""

    def __init__(self, models: ModelCommands, gate: Gate, *, set_serving: Callable[[bool], Awaitable[None]]) -> None:
        self._models = models
        self._gate = gate
        self._set_serving = set_serving

    async def LoadModel(self, request: pb.LoadModelRequest, context: RpcContext) -> pb.LoadModelResponse:
        """Loads a model; answers when it is ready on an endpoint."""
        with audited(context, request):
            return pb.LoadModelResponse(unloaded=await self._models.load(request))

    async def UnloadModel(self, request: pb.UnloadModelRequest, context: RpcContext) -> pb.UnloadModelResponse:
        """Unloads a model; answers when no endpoint has it."""
        with audited(context, request):
            if is_sibling(context):  # which has unloaded it, or loaded it elsewhere
                self._models.forget(request.model, told_endpoint(context))
            else:
                await self._models.unload(request)
        return pb.UnloadModelResponse()

    async def Drain(self, request: pb.DrainRequest, context: RpcContext) -> pb.DrainResponse:
        """Drains the router; answers when nothing runs."""
        with audited(context, request):
            await self._set_serving(False)
            await self._gate.drain()
        return pb.DrainResponse()

    async def Resume(self, request: pb.ResumeRequest, context: RpcContext) -> pb.ResumeResponse:
        """Takes the router back into service."""
        with audited(context, request):
            self._gate.resume()
            await self._set_serving(True)
        return pb.ResumeResponse()
