"""Writes a serialised ModelInferResponse. Raw contents are copied once, into the message."""

from collections.abc import Mapping

from infermesh.open_inference.v2 import open_inference_pb2 as oip
from infermesh_router.kserve.infer.parameters import window_parameters
from infermesh_router.kserve.tensors.contents import to_contents
from infermesh_router.kserve.tensors.datatypes import NAMES
from infermesh_router.kserve.tensors.values import VERSION, InferAnswer, InferAsk, Output, Value
from infermesh_router.kserve.tensors.wire import Bytes, opening
from infermesh_router.requests.parsing_pool import ParsingPool

_RAW_CONTENTS = oip.ModelInferResponse.RAW_OUTPUT_CONTENTS_FIELD_NUMBER
_LIGHT_BYTES = 16 * 1024


async def write_grpc(ask: InferAsk, answer: InferAnswer, pool: ParsingPool) -> bytes:
    """The response to a request, typed if its own contents were and all outputs can be.

    An output in shared memory has no elements here, which typed contents cannot say.
    """
    size_bytes = sum(len(output.data) for output in answer.outputs)
    if ask.raw or any(output.window for output in answer.outputs):
        return _write_raw(ask, answer)
    if size_bytes <= _LIGHT_BYTES:
        return write_typed(ask, answer)
    _, (written,) = await pool.run(_write_heavy, _write_raw(ask, answer))
    return written


def write_typed(ask: InferAsk, answer: InferAnswer) -> bytes:
    """The response with typed contents."""
    contents = [to_contents(output) for output in answer.outputs]
    if any(each is None for each in contents):
        return _write_raw(ask, answer)
    head = _head(ask, answer)
    for described, each in zip(head.outputs, contents, strict=True):
        if each is not None:
            described.contents.CopyFrom(each)
    return head.SerializeToString()


def _write_raw(ask: InferAsk, answer: InferAnswer) -> bytes:
    parts: list[Bytes] = [_head(ask, answer).SerializeToString()]
    for output in answer.outputs:
        parts += (opening(_RAW_CONTENTS, len(output.data)), output.data)
    return b"".join(parts)


def _write_heavy(raw: bytes) -> tuple[None, list[bytes]]:
    """The typed response of a raw one."""
    response = oip.ModelInferResponse.FromString(raw)
    numbers = {name: number for number, name in NAMES.items()}
    contents = [
        to_contents(Output(each.name, numbers[each.datatype], tuple(each.shape), data))  # type: ignore[arg-type]
        for each, data in zip(response.outputs, response.raw_output_contents, strict=True)
    ]
    if all(each is not None for each in contents):
        del response.raw_output_contents[:]
        for described, made in zip(response.outputs, contents, strict=True):
            described.contents.CopyFrom(made or oip.InferTensorContents())
    return None, [response.SerializeToString()]


def _head(ask: InferAsk, answer: InferAnswer) -> oip.ModelInferResponse:
    return oip.ModelInferResponse(
        model_name=answer.model,
        model_version=VERSION,
        id=ask.id,
        outputs=[
            oip.ModelInferResponse.InferOutputTensor(
                name=output.name,
                datatype=NAMES[output.dtype],
                shape=output.shape,
                parameters=write_parameters(window_parameters(output.window)) if output.window else {},
            )
            for output in answer.outputs
        ],
    )


def write_parameters(parameters: Mapping[str, Value]) -> dict[str, oip.InferParameter]:
    """The parameters as gRPC has them."""
    return {name: _parameter(value) for name, value in parameters.items()}


def _parameter(value: Value) -> oip.InferParameter:
    if isinstance(value, bool):
        return oip.InferParameter(bool_param=value)
    if isinstance(value, int):
        return oip.InferParameter(int64_param=value)
    return oip.InferParameter(string_param=value) if isinstance(value, str) else oip.InferParameter(double_param=value)
