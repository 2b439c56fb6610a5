"""Runs a router behind Envoy, and a worker that takes tensors, until its standard input ends. Prints where they are.

The tests of tritonclient start it with the development venv: in their own venv they have none of our packages.
"""

import asyncio
import json
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh_envoy import Address, EnvoyOptions, EnvoyProcess
from infermesh_router.testing.router import running_router
from infermesh_router.testing.tensors import TensorWorker
from infermesh_runtime.rpc.context import RpcContext
from infermesh_runtime.tensors import from_numpy, to_numpy


@dataclass
class ClientsWorker(TensorWorker):
    """Has besides: "double", which gives twice x as y; "slow", which never answers; "cancelled", which counts those."""

    models: tuple[str, ...] = ("m", "echo", "team/echo", "double", "slow", "cancelled")
    cancelled: int = 0

    def __post_init__(self) -> None:
        self.kinds = {name: pb.MODEL_KIND_INFER for name in self.models if name != "m"}

    async def Infer(self, request: pb.InferRequest, context: RpcContext) -> pb.InferResponse:
        if request.model == "slow":
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                self.cancelled += 1
                raise
        if request.model == "cancelled":
            counted = np.array([self.cancelled], np.int64)
            return pb.InferResponse(model=request.model, outputs=[from_numpy(counted, name="count")])
        if request.model == "double":
            doubled = 2 * to_numpy(request.inputs[0], field="inputs[0]")
            return pb.InferResponse(model=request.model, outputs=[from_numpy(doubled, name="y")])
        return await super().Infer(request, context)


async def main() -> None:
    worker = ClientsWorker()
    await worker.start()
    async with running_router(worker.address, shared_memory=True) as router:
        with tempfile.TemporaryDirectory(prefix="infermesh-triton-") as folder:
            free, log = Address("127.0.0.1", 0), Path(folder) / "access.log"
            options = EnvoyOptions(http=free, grpc=free, router=Address.parse(router.address), access_log=str(log))
            envoy = EnvoyProcess(options, Path(folder))
            await asyncio.to_thread(envoy.start)
            try:
                sys.stdout.write(
                    json.dumps({"http": envoy.http, "grpc": envoy.grpc, "admin": router.admin_address}) + "\n"
                )
                sys.stdout.flush()
                await asyncio.to_thread(sys.stdin.read)
            finally:
                await asyncio.to_thread(envoy.stop)
    await worker.stop()


if __name__ == "__main__":
    asyncio.run(main())
