"""Makes the serialised InferRequest of a request, and reads the serialised InferResponse, with one copy at most."""

from collections.abc import Sequence

from google.protobuf.message import DecodeError

from infermesh.inference.v1 import inference_pb2 as pb
from infermesh.tensor.v1.tensor_pb2 import Tensor
from infermesh_router.kserve.tensors.datatypes import NAMES
from infermesh_router.kserve.tensors.values import InferAnswer, InferAsk, Input, Output
from infermesh_router.kserve.tensors.wire import Bytes, opening, set_apart
from infermesh_runtime.errors import InfermeshError, Internal

_INPUTS, _OUTPUTS = pb.InferRequest.INPUTS_FIELD_NUMBER, pb.InferResponse.OUTPUTS_FIELD_NUMBER
_DATA = Tensor.DATA_FIELD_NUMBER


def infer_body(ask: InferAsk, device: str, priority: int = 0) -> bytes:
    """The serialised InferRequest."""
    names = [wanted.name for wanted in ask.outputs]
    head = pb.InferRequest(model=ask.model, outputs=names, device=device, priority=priority)
    parts: list[Bytes] = [head.SerializeToString()]
    for each in ask.inputs:
        parts += _tensor_parts(each)
    return b"".join(parts)


def read_answer(body: bytes, ask: InferAsk) -> InferAnswer:
    """The answer in a serialised InferResponse, its outputs in the order asked for. Raises Internal for a wrong one."""
    try:
        head, tensors = set_apart(body, _OUTPUTS)
        model = pb.InferResponse.FromString(head).model
        outputs = {output.name: output for output in map(_output, tensors)}
        ordered = [outputs[wanted.name] for wanted in ask.outputs] if ask.outputs else list(outputs.values())
    except (DecodeError, KeyError, InfermeshError) as error:
        raise Internal(f"The endpoint's answer cannot be read: {error}.", reason="BAD_ANSWER") from None
    return InferAnswer(ask.model or model, tuple(ordered))


def _tensor_parts(tensor: Input) -> Sequence[Bytes]:
    head = Tensor(name=tensor.name, dtype=tensor.dtype, shape=tensor.shape).SerializeToString()
    opened = opening(_DATA, len(tensor.data))
    return opening(_INPUTS, len(head) + len(opened) + len(tensor.data)), head, opened, tensor.data


def _output(message: memoryview) -> Output:
    head, data = set_apart(message, _DATA)
    tensor = Tensor.FromString(head)
    if tensor.dtype not in NAMES:
        raise Internal(f"The output '{tensor.name}' has no type that is known.", reason="BAD_ANSWER")
    return Output(tensor.name, tensor.dtype, tuple(tensor.shape), data[-1] if data else b"")
