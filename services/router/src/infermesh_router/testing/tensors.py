"""A worker on a real port that takes tensors, and requests in the Open Inference Protocol to a router under test."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

import grpc
import numpy as np

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.open_inference.v2 import open_inference_pb2 as oip
from infermesh.open_inference.v2 import open_inference_pb2_grpc as oip_grpc
from infermesh.tensor.v1.tensor_pb2 import DataType, TensorMetadata
from infermesh_router.testing.router import RunningRouter, ScriptedWorker
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.rpc.status import from_rpc_error


@dataclass
class TensorWorker(ScriptedWorker):
    """Has a model "echo", which gives each input back, and a language model "m" that says "Hello world"."""

    inferred: list[pb.InferRequest] = field(default_factory=list)
    kinds: dict[str, pb.ModelKind] = field(
        default_factory=lambda: {"echo": pb.MODEL_KIND_INFER, "team/echo": pb.MODEL_KIND_INFER}
    )
    models: tuple[str, ...] = ("m", "echo", "team/echo")
    failures: int = 0
    """How many calls it fails with UNAVAILABLE before it answers."""

    async def Infer(self, request: pb.InferRequest, context: RpcContext) -> pb.InferResponse:
        """Gives the inputs back, or those that are asked for, in the opposite order."""
        self.inferred.append(request)
        if self.failures:
            self.failures -= 1
            await context.abort(grpc.StatusCode.UNAVAILABLE, "The device died.")
        tensors = {tensor.name: tensor for tensor in request.inputs}
        names = request.outputs or list(tensors)
        if unknown := [name for name in names if name not in tensors]:
            raise InvalidArgument(f"There is no output '{unknown[0]}'.", fields={"outputs": "is not known"})
        return pb.InferResponse(model=request.model, outputs=[tensors[name] for name in reversed(names)])

    def _report(self) -> pb.HealthReport:
        report = super()._report()
        for model in report.models:
            if model.name in self.kinds:
                model.kind = self.kinds[model.name]
                tensor = TensorMetadata(name="x", dtype=DataType.DATA_TYPE_FP32, shape=[-1, 2])
                model.inputs.append(tensor)
                model.outputs.append(tensor)
        return report


@dataclass
class HoldingWorker(TensorWorker):
    """Answers once it may."""

    arrived: asyncio.Event = field(default_factory=asyncio.Event)
    may: asyncio.Event = field(default_factory=asyncio.Event)

    async def Infer(self, request: pb.InferRequest, context: RpcContext) -> pb.InferResponse:
        """Notes that the request is there, and waits."""
        answer = await super().Infer(request, context)
        self.arrived.set()
        await self.may.wait()
        return answer


def stub(router: RunningRouter, *, admin: bool = False) -> oip_grpc.GRPCInferenceServiceStub:
    """The protocol's service of a router."""
    return oip_grpc.GRPCInferenceServiceStub(router.admin_channel if admin else router.channel)


async def call(router: RunningRouter, method: str, request: Any, *, admin: bool = False) -> Any:
    """Calls a method that has one answer. Raises the status's InfermeshError."""
    try:
        return await getattr(stub(router, admin=admin), method)(request)
    except grpc.aio.AioRpcError as error:
        raise from_rpc_error(error) from error


def raw_request(model: str = "echo", **arrays: np.ndarray[Any, Any]) -> oip.ModelInferRequest:
    """A request with raw contents of arrays by name."""
    request = oip.ModelInferRequest(model_name=model)
    for name, array in arrays.items():
        request.inputs.add(name=name, datatype=triton_type(array.dtype), shape=array.shape)
        request.raw_input_contents.append(array.tobytes())
    return request


def triton_type(dtype: "np.dtype[Any]") -> str:
    """The protocol's name of a numpy type."""
    kinds = {"b": "BOOL", "i": f"INT{8 * dtype.itemsize}", "u": f"UINT{8 * dtype.itemsize}"}
    return kinds.get(dtype.kind, f"FP{8 * dtype.itemsize}")
