"""gRPC service that loads and unloads models of a worker, drains it and resumes it."""

import math

from infermesh.admin.v1 import admin_pb2 as pb
from infermesh.admin.v1 import admin_pb2_grpc
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.rpc.audit import audited
from infermesh_runtime.rpc.context import RpcContext
from infermesh_worker.worker import Worker


class EndpointServicer(admin_pb2_grpc.EndpointServiceServicer):
    """infermesh.admin.v1.EndpointService over a worker."""

    def __init__(self, worker: Worker) -> None:
        self._worker = worker

    async def LoadModel(self, request: pb.LoadModelRequest, context: RpcContext) -> pb.LoadModelResponse:
        with audited(context, request):
            keep_alive_s = _keep_alive_s(request)
            name = _model(request.model)
            unloaded = await self._worker.loader.load(name, pinned=request.pinned, keep_alive_s=keep_alive_s)
            return pb.LoadModelResponse(unloaded=unloaded)

    async def UnloadModel(self, request: pb.UnloadModelRequest, context: RpcContext) -> pb.UnloadModelResponse:
        with audited(context, request):
            await self._worker.loader.unload(_model(request.model), force=request.force)
        return pb.UnloadModelResponse()

    async def Drain(self, request: pb.DrainRequest, context: RpcContext) -> pb.DrainResponse:
        with audited(context, request):
            await self._worker.drain_requests()
        return pb.DrainResponse()

    async def Resume(self, request: pb.ResumeRequest, context: RpcContext) -> pb.ResumeResponse:
        with audited(context, request):
            self._worker.resume()
        return pb.ResumeResponse()


def _model(name: str) -> str:
    if not name:
        raise InvalidArgument("'model' is required; set it to the name of a model.", fields={"model": "is required"})
    return name


def _keep_alive_s(request: pb.LoadModelRequest) -> float | None:
    if not request.HasField("keep_alive_s"):
        return None
    if not (math.isfinite(request.keep_alive_s) and request.keep_alive_s >= 0):
        raise InvalidArgument(
            "keep_alive_s: must be a finite number of seconds, 0 or more",
            fields={"keep_alive_s": "must be finite, 0 or more"},
        )
    return request.keep_alive_s
