"""Reads serialised InferRequests and writes serialised InferResponses without copying the data of their tensors.

Protobuf's own messages copy a tensor's data when they are parsed, when it is read, when it is set and when they are
serialised. Here a tensor's data is a view of the request's bytes, and is copied once into those of the response.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from google.protobuf.message import DecodeError

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.tensor.v1.tensor_pb2 import Tensor
from infermesh_runtime.errors import InvalidArgument
from infermesh_worker.executors.wire_tensors import Flat

_INPUTS = 2
_DATA = 4
_VARINT, _FIXED64, _DELIMITED, _FIXED32 = 0, 1, 2, 5
_OUTPUTS_TAG = bytes([2 << 3 | _DELIMITED])
_DATA_TAG = bytes([_DATA << 3 | _DELIMITED])


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
        for number, kind, whole, content in _fields(view):
            if number == _INPUTS and kind == _DELIMITED:
                inputs.append(_read_tensor(content))
            else:
                rest += whole
        return pb.InferRequest.FromString(bytes(rest)), inputs
    except (DecodeError, ValueError, IndexError) as error:
        raise InvalidArgument("The request is not a valid protobuf message.", reason="MALFORMED_MESSAGE") from error


def write_response(model: str, outputs: Sequence[Flat]) -> bytes:
    """The response with these outputs; copies their data once."""
    parts: list[bytes | memoryview] = [pb.InferResponse(model=model).SerializeToString()]
    for name, dtype, shape, data in outputs:
        header = Tensor(name=name, shape=shape).SerializeToString() + Tensor(dtype=dtype).SerializeToString()  # type: ignore[arg-type] # a number of the enum
        header += _DATA_TAG + _varint(data.size)
        parts += (_OUTPUTS_TAG, _varint(len(header) + data.size), header, data.data)
    return b"".join(parts)


def _read_tensor(view: memoryview) -> GivenTensor:
    header, data = bytearray(), memoryview(b"")
    for number, kind, whole, content in _fields(view):
        if number == _DATA and kind == _DELIMITED:
            data = content  # the last one counts, as protobuf has it
        else:
            header += whole
    return GivenTensor(Tensor.FromString(bytes(header)), data)


def _fields(view: memoryview) -> Iterator[tuple[int, int, memoryview, memoryview]]:
    """Each field: number, wire type, all of its bytes, and its content. Raises ValueError and IndexError."""
    position, end = 0, len(view)
    while position < end:
        begin = position
        tag, position = _read_varint(view, position)
        kind, size = tag & 7, 0
        if kind == _VARINT:
            _, position = _read_varint(view, position)
        elif kind == _DELIMITED:
            size, position = _read_varint(view, position)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind} is unknown")
        if position + size > end:
            raise ValueError("a field ends beyond the message")
        yield tag >> 3, kind, view[begin : position + size], view[position : position + size]
        position += size


def _read_varint(view: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        byte = view[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a varint has more than ten bytes")


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
