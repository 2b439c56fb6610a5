"""Reads serialised InferRequests and writes serialised InferResponses without copying the data of their tensors.

Protobuf's own messages copy a tensor's data when they are parsed, when it is read, when it is set and when they are
serialised. Here a tensor's data is a view of the request's bytes, and is copied once into those of the response.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.tensor.v1.tensor_pb2 import Tensor
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.wire_fields import DELIMITED, fields, varint
from infermesh_worker.executors.wire_tensors import Flat

MAX_INPUTS = 1024
"""Most fields of a request, its inputs included; so many that reading them takes milliseconds."""
_MAX_FIELDS, _MAX_HEADER_BYTES = 128, 64 * 1024
"""The same for a tensor, which has at most 64 dimensions."""
_INPUTS = 2
_DATA = 4
_OUTPUTS_TAG = bytes([2 << 3 | DELIMITED])
_DATA_TAG = bytes([_DATA << 3 | DELIMITED])


@dataclass(frozen=True, slots=True)
class GivenTensor:
    """A tensor of a request: the message without its data, and its data."""

    header: Tensor
    data: memoryview


def read_request(body: bytes) -> tuple[pb.InferRequest, list[GivenTensor]]:
    """The request without its inputs, and its inputs. Raises InvalidArgument for what is no such message."""
    rest, inputs = bytearray(), []
    try:
        view = memoryview(body)
        for number, kind, whole, content in fields(view, MAX_INPUTS):
            if number == _INPUTS and kind == DELIMITED:
                inputs.append(_read_tensor(content))
            else:
                rest += whole
        return pb.InferRequest.FromString(bytes(rest)), inputs
    except (DecodeError, ValueError, IndexError) as error:
        raise InvalidArgument(
            f"The request is not a valid protobuf message: {error}", reason="MALFORMED_MESSAGE"
        ) from error


def write_response(model: str, outputs: Sequence[Flat]) -> bytes:
    """The response with these outputs; copies their data once."""
    parts: list[bytes | memoryview] = [pb.InferResponse(model=model).SerializeToString()]
    for name, dtype, shape, data in outputs:
        header = Tensor(name=name, shape=shape).SerializeToString() + Tensor(dtype=dtype).SerializeToString()  # type: ignore[arg-type] # a number of the enum
        header += _DATA_TAG + varint(data.size)
        parts += (_OUTPUTS_TAG, varint(len(header) + data.size), header, data.data)
    return b"".join(parts)


def _read_tensor(view: memoryview) -> GivenTensor:
    header, data = bytearray(), memoryview(b"")
    for number, kind, whole, content in fields(view, _MAX_FIELDS):
        if number == _DATA and kind == DELIMITED:
            data = content  # the last one counts, as protobuf has it
        else:
            header += whole
    if len(header) > _MAX_HEADER_BYTES:
        raise ValueError(f"a tensor has {len(header)} bytes beside its data")
    return GivenTensor(Tensor.FromString(bytes(header)), data)
