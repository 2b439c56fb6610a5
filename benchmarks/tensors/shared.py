"""The way through system shared memory: requests and answers carry the places of tensors only."""

import mmap
import os
from contextlib import ExitStack
from pathlib import Path

import grpc

from benchmarks.tensors.ways import DATATYPE, Array, Data, Sent, Way, kserve_call
from infermesh.open_inference.v2 import open_inference_pb2 as oip
from infermesh.open_inference.v2 import open_inference_pb2_grpc as oip_grpc

_FOLDER = Path("/dev/shm")


async def shared_memory(name: str, channel: grpc.aio.Channel, most_bytes: int, parts: ExitStack) -> Way:
    """A way through an object for inputs and one for outputs, which end with `parts`."""
    regions = dict[str, mmap.mmap]()
    for region in ("x", "y"):
        key = f"infermesh-bench-{os.getpid()}-{region}"
        regions[region] = _open(key, most_bytes, parts)
        request = oip.SystemSharedMemoryRegisterRequest(name=region, key=key, byte_size=most_bytes)
        await oip_grpc.GRPCInferenceServiceStub(channel).SystemSharedMemoryRegister(request)

    def pack(model: str, x: Array) -> Sent:
        regions["x"][: x.nbytes] = x.tobytes()
        request = oip.ModelInferRequest(model_name=model)
        _place(request.inputs.add(name="x", datatype=DATATYPE, shape=x.shape), "x", x.nbytes)
        _place(request.outputs.add(name="y"), "y", x.nbytes)
        return Sent(request.SerializeToString())

    def unpack(answer: Data) -> Data:
        (output,) = oip.ModelInferResponse.FromString(bytes(answer)).outputs
        return regions["y"][: output.parameters["shared_memory_byte_size"].int64_param]

    return Way(name, pack, kserve_call(channel), unpack)


def _open(key: str, size_bytes: int, parts: ExitStack) -> mmap.mmap:
    path = _FOLDER / key
    with path.open("x+b") as file:
        parts.callback(path.unlink)
        file.truncate(size_bytes)
        return parts.enter_context(mmap.mmap(file.fileno(), size_bytes))


def _place(
    tensor: oip.ModelInferRequest.InferInputTensor | oip.ModelInferRequest.InferRequestedOutputTensor,
    region: str,
    size_bytes: int,
) -> None:
    tensor.parameters["shared_memory_region"].string_param = region
    tensor.parameters["shared_memory_byte_size"].int64_param = size_bytes
