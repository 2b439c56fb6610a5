"""The ways to a model: how each packs a tensor, sends it, and unpacks what it gets back.

What is packed before the clock starts and unpacked after it stops is the client's own work, which no row has.
"""

import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection

import grpc
import numpy as np
import onnxruntime as ort
import orjson
from numpy.typing import NDArray

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.open_inference.v2 import open_inference_pb2 as oip
from infermesh_runtime.tensors import from_numpy

INFER = "/infermesh.inference.v1.InferenceService/Infer"
_MODEL_INFER = "/inference.GRPCInferenceService/ModelInfer"
_WAIT_S = 300.0
DATATYPE = "FP32"
"""That of all inputs, in the Open Inference Protocol's words."""
_JSON_BYTES = "inference-header-content-length"

Array = NDArray[np.float32]
Data = bytes | memoryview


class RefusedError(Exception):
    """The server does not take the request, and says why."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as it is sent."""

    body: Data
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Way:
    """One way to models of one input, x, and one output."""

    name: str
    pack: Callable[[str, Array], Sent]
    """Makes the request of a model's name and x."""
    call: Callable[[Sent], Awaitable[Data]]
    """Raises RefusedError."""
    unpack: Callable[[Data], Data]
    """The elements of the output in an answer."""


def native(name: str, channel: grpc.aio.Channel) -> Way:
    """Our own Infer."""

    def pack(model: str, x: Array) -> Sent:
        return Sent(pb.InferRequest(model=model, inputs=[from_numpy(x, name="x")]).SerializeToString())

    def unpack(answer: Data) -> Data:
        return bytes(pb.InferResponse.FromString(bytes(answer)).outputs[0].data)

    return Way(name, pack, over_grpc(channel, INFER), unpack)


def echo(name: str, channel: grpc.aio.Channel) -> Way:
    """The same request, which the server returns as it is."""

    def unpack(answer: Data) -> Data:
        return bytes(pb.InferRequest.FromString(bytes(answer)).inputs[0].data)

    return Way(name, native(name, channel).pack, over_grpc(channel, INFER), unpack)


def kserve(name: str, channel: grpc.aio.Channel) -> Way:
    """The Open Inference Protocol over gRPC, with raw contents."""

    def pack(model: str, x: Array) -> Sent:
        request = oip.ModelInferRequest(model_name=model, raw_input_contents=[x.tobytes()])
        request.inputs.add(name="x", datatype=DATATYPE, shape=x.shape)
        return Sent(request.SerializeToString())

    def unpack(answer: Data) -> Data:
        return bytes(oip.ModelInferResponse.FromString(bytes(answer)).raw_output_contents[0])

    return Way(name, pack, kserve_call(channel), unpack)


def kserve_call(channel: grpc.aio.Channel) -> Callable[[Sent], Awaitable[Data]]:
    """Calls ModelInfer."""
    return over_grpc(channel, _MODEL_INFER)


def rest_json(name: str, address: str) -> Way:
    """The Open Inference Protocol over HTTP, with the elements as JSON."""

    def pack(model: str, x: Array) -> Sent:
        given = {"name": "x", "datatype": DATATYPE, "shape": x.shape, "data": x.ravel()}
        return _posted(model, orjson.dumps({"inputs": [given]}, option=orjson.OPT_SERIALIZE_NUMPY))

    def unpack(answer: Data) -> Data:
        return np.array(orjson.loads(answer)["outputs"][0]["data"], np.float32).tobytes()

    return Way(name, pack, _over_http(address), unpack)


def rest_binary(name: str, address: str) -> Way:
    """The Open Inference Protocol over HTTP, with the elements as they are behind the JSON."""

    def pack(model: str, x: Array) -> Sent:
        size = {"binary_data_size": x.nbytes}
        given = {"name": "x", "datatype": DATATYPE, "shape": x.shape, "parameters": size}
        head = json.dumps({"inputs": [given], "parameters": {"binary_data_output": True}}).encode()
        return _posted(model, head + x.tobytes(), **{_JSON_BYTES: str(len(head))})

    def unpack(answer: Data) -> Data:
        _, end = json.JSONDecoder().raw_decode(bytes(answer[:1000]).decode(errors="replace"))
        return answer[end:]

    return Way(name, pack, _over_http(address), unpack)


def runtime(name: str, sessions: Mapping[str, ort.InferenceSession]) -> Way:
    """onnxruntime in this process, without any protocol. The shape is that of the model's input."""
    arrays = dict[str, Array]()

    def pack(model: str, x: Array) -> Sent:
        arrays[model] = x
        return Sent(b"", {"model": model})

    async def call(sent: Sent) -> Data:
        model = sent.headers["model"]
        (y,) = sessions[model].run(None, {"x": arrays[model]})
        return memoryview(y).cast("B")

    return Way(name, pack, call, lambda answer: answer)


def over_grpc(channel: grpc.aio.Channel, method: str) -> Callable[[Sent], Awaitable[Data]]:
    """Calls a method with messages that are serialised already, so that the client's work is the same on every way."""
    send = channel.unary_unary(method)

    async def call(sent: Sent) -> Data:
        try:
            answer: bytes = await send(sent.body, timeout=_WAIT_S)
        except grpc.aio.AioRpcError as error:
            raise RefusedError(f"{error.code().name}: {error.details()}") from None
        return answer

    return call


def _over_http(address: str) -> Callable[[Sent], Awaitable[Data]]:
    """Posts on one connection. It blocks the event loop, which has nothing else to do then."""
    connection = HTTPConnection(address, timeout=_WAIT_S)

    async def call(sent: Sent) -> Data:
        path, headers = sent.headers[":path"], {name: value for name, value in sent.headers.items() if name[0] != ":"}
        connection.request("POST", path, sent.body, headers)
        response = connection.getresponse()
        answer = response.read()
        if response.status != 200:
            raise RefusedError(f"{response.status}: {answer.decode(errors='replace')[:200]}")
        return answer

    return call


def _posted(model: str, body: bytes, **headers: str) -> Sent:
    return Sent(body, {":path": f"/v2/models/{model}/infer", "content-type": "application/json", **headers})
