"""Reads a serialised ModelInferRequest. Raw contents are not copied; large typed ones are read in another process."""

from collections.abc import Mapping, Sequence

from google.protobuf.message import DecodeError

from infermesh.open_inference.v2 import open_inference_pb2 as oip
from infermesh_router.kserve.infer.parameters import check_version, read_window
from infermesh_router.kserve.tensors.contents import from_contents
from infermesh_router.kserve.tensors.datatypes import read_datatype
from infermesh_router.kserve.tensors.values import InferAsk, Input, Parameters, WantedOutput
from infermesh_router.kserve.tensors.wire import MAX_FIELDS, Bytes, malformed, set_apart
from infermesh_router.requests.bounds import Bounds
from infermesh_router.requests.parsing_pool import ParsingPool
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.wire_fields import DELIMITED, fields

_RAW_CONTENTS = oip.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER
_ID = oip.ModelInferRequest.ID_FIELD_NUMBER
_LIGHT_BYTES = 16 * 1024
_BOTH = "'raw_input_contents' and the 'contents' of inputs must not both be there"


async def read_grpc(message: bytes, bounds: Bounds, pool: ParsingPool) -> InferAsk:
    """Reads a request without holding up the event loop. Raises InvalidArgument, and ModelNotFound for a version."""
    head, raw = set_apart(message, _RAW_CONTENTS)
    if len(head) <= _LIGHT_BYTES:
        return read_parts(head, raw)
    if raw:
        raise InvalidArgument(
            f"The request has {len(head)} bytes besides its raw contents; at most {_LIGHT_BYTES} are allowed.",
            reason="REQUEST_TOO_COMPLEX",
        )
    ask, data = await pool.run(_read_heavy, head, bounds)
    return ask.with_data(data)


def read_parts(head: bytes, raw: Sequence[Bytes]) -> InferAsk:
    """The request of a message without its raw contents, and these."""
    try:
        request = oip.ModelInferRequest.FromString(head)
    except DecodeError:
        raise malformed() from None
    check_version(request.model_name, request.model_version)
    ask = InferAsk(
        model=request.model_name,
        version=request.model_version,
        id=request.id,
        parameters=read_parameters(request.parameters),
        inputs=tuple(_inputs(request, raw)),
        outputs=tuple(map(_output, request.outputs)),
        raw=bool(raw) or not any(each.HasField("contents") for each in request.inputs),
    )
    ask.check()
    return ask


def read_parameters(parameters: Mapping[str, oip.InferParameter]) -> Parameters:
    """The values of parameters. Raises InvalidArgument for one without a value."""
    values: dict[str, str | int | float | bool] = {}
    for name, parameter in parameters.items():
        kind = parameter.WhichOneof("parameter_choice")
        if kind is None:
            raise InvalidArgument(
                f"The parameter '{name}' has no value.", fields={f"parameters.{name}": "has no value"}
            )
        values[name] = getattr(parameter, kind)
    return values


def _read_heavy(head: bytes, bounds: Bounds) -> tuple[InferAsk, list[bytes]]:
    bounds.check_protobuf(head, oip.ModelInferRequest)
    return read_parts(head, ()).without_data()


def _inputs(request: oip.ModelInferRequest, raw: Sequence[Bytes]) -> list[Input]:
    inputs, left = [], list(raw)
    for each in request.inputs:
        dtype, shape = read_datatype(each.datatype, each.name), tuple(each.shape)
        # KServe's client tells the size of raw contents as over REST; theirs counts
        window = read_window(read_parameters(each.parameters), each.name, ("binary_data_size",))
        if each.HasField("contents") and (raw or window):
            raise InvalidArgument(f"The tensor '{each.name}': {_BOTH}.", fields={each.name: _BOTH})
        if window is not None:
            inputs.append(Input(each.name, dtype, shape, window=window))
        elif raw:
            inputs.append(Input(each.name, dtype, shape, left.pop(0) if left else b""))
        else:
            inputs.append(Input(each.name, dtype, shape, from_contents(each.name, dtype, shape, each.contents)))
    needed = sum(each.window is None for each in inputs)
    if raw and needed != len(raw):
        problem = f"has {len(raw)} entries; the {needed} inputs that are not in shared memory need one each"
        raise InvalidArgument(f"'raw_input_contents' {problem}.", fields={"raw_input_contents": problem})
    return inputs


def _output(wanted: oip.ModelInferRequest.InferRequestedOutputTensor) -> WantedOutput:
    parameters = read_parameters(wanted.parameters)
    # tritonclient marks what goes to shared memory with binary_data as well, and gRPC has no other form than binary
    return WantedOutput(wanted.name, read_window(parameters, wanted.name, ("binary_data",)))


def read_id(message: bytes) -> str:
    """The id of a request that may be malformed; "" if it cannot be read. Nothing but the id is parsed."""
    found: Bytes = b""
    try:
        for number, kind, _, content in fields(memoryview(message), MAX_FIELDS):
            if number == _ID and kind == DELIMITED:
                found = content  # of several the last one counts, as for protobuf
        return str(found, "utf-8")
    except (ValueError, IndexError):
        return ""
