"""Reads a body of /v2/models/NAME/infer: JSON, and behind it the elements of binary inputs, which are not copied."""

from collections.abc import Mapping, Sequence
from typing import Any

import jiter

from infermesh_router.kserve.infer.parameters import bad_parameter, check_version, read_flag, read_window
from infermesh_router.kserve.tensors.datatypes import bad_tensor, read_datatype
from infermesh_router.kserve.tensors.json_values import from_json
from infermesh_router.kserve.tensors.values import InferAsk, Input, Parameters, WantedOutput
from infermesh_router.kserve.tensors.wire import Bytes
from infermesh_router.openai.bodies import BodyRules
from infermesh_router.requests.bounds import is_light_json
from infermesh_router.requests.parsing_pool import ParsingPool
from infermesh_runtime.errors import InvalidArgument

_BINARY_SIZE, _BINARY = "binary_data_size", "binary_data"
_FIELDS = ("id", "parameters", "inputs", "outputs")
_IN_PATH = ("model_name", "model_version")
"""KServe's client sends them in the body too; the path counts."""


async def read_rest(
    model: str, version: str, json: bytes, binary: Bytes, *, rules: BodyRules, pool: ParsingPool
) -> InferAsk:
    """Reads a body without holding up the event loop. Raises InvalidArgument, and ModelNotFound for a version."""
    if is_light_json(json):
        return read_json(json, model, version, binary, ignore_unknown=rules.ignore_unknown)
    ask, data = await pool.run(_read_heavy, json, model, version, rules)
    return take_binary(ask, data, binary)


def read_json(json: bytes, model: str, version: str, binary: Bytes = b"", *, ignore_unknown: bool = False) -> InferAsk:
    """The request of a body."""
    ask, data = _read(json, model, version, ignore_unknown)
    return take_binary(ask, data, binary)


def take_binary(ask: InferAsk, data: Sequence[bytes], binary: Bytes) -> InferAsk:
    """The request with its elements: binary inputs came with the size of theirs, written out."""
    view, at, elements = memoryview(binary), 0, list[Bytes]()
    for each, own in zip(ask.inputs, data, strict=True):
        if not own.startswith(_MARK):
            elements.append(own[1:])
            continue
        size = int(own[1:])
        if at + size > len(view):
            problem = f"has {_BINARY_SIZE} {size}, but only {len(view) - at} bytes are left behind the JSON"
            raise bad_tensor(each.name, problem)
        elements.append(view[at : at + size])
        at += size
    if at != len(view):
        problem = f"has {len(view)} bytes behind the JSON, and the inputs take {at} of them"
        raise InvalidArgument(f"The body {problem}.", fields={"inputs": problem})
    return ask.with_data(elements)


_MARK, _PLAIN = b"#", b"="


def _read_heavy(json: bytes, model: str, version: str, rules: BodyRules) -> tuple[InferAsk, list[bytes]]:
    rules.bounds.check_json(json)
    return _read(json, model, version, rules.ignore_unknown)


def _read(json: bytes, model: str, version: str, ignore_unknown: bool) -> tuple[InferAsk, list[bytes]]:
    """The request without elements; and for each input these behind a "=", or behind a "#" the size of binary ones."""
    check_version(model, version)
    document = parse_object(json)
    unknown = tuple(name for name in document if name not in (*_FIELDS, *_IN_PATH))
    if unknown and not ignore_unknown:
        raise InvalidArgument(
            f"The field '{unknown[0]}' is not known; there are {', '.join(_FIELDS)}.",
            fields={unknown[0]: "is not known"},
        )
    inputs = [_input(each) for each in _list(document, "inputs")]
    parameters = read_parameters(document.get("parameters"), "the request")
    id_ = document.get("id", "")
    if not isinstance(id_, str):
        raise InvalidArgument("'id' must be a text.", fields={"id": "must be a text"})
    ask = InferAsk(
        model=model,
        version=version,
        id=id_,
        parameters=parameters,
        inputs=tuple(each for each, _ in inputs),
        outputs=tuple(_output(each) for each in _list(document, "outputs")),
        raw=False,
        ignored=unknown,
    )
    ask.check()
    return ask, [data for _, data in inputs]


def parse_object(json: bytes) -> dict[str, Any]:
    """Parses a JSON object, in which NaN and infinities are numbers, as in Triton. Raises InvalidArgument."""
    try:
        document = jiter.from_json(json, allow_inf_nan=True, catch_duplicate_keys=True, float_mode="float")
    except ValueError as error:
        raise InvalidArgument(f"The body is not valid JSON: {error}.", reason="INVALID_JSON") from None
    if not isinstance(document, dict):
        raise InvalidArgument("The body must be a JSON object.", reason="INVALID_JSON")
    return document


def read_parameters(value: object, what: str) -> Parameters:
    """The parameters of a request or a tensor. Raises InvalidArgument."""
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise InvalidArgument(f"The 'parameters' of {what} must be an object.", fields={"parameters": "is no object"})
    for name, each in value.items():
        if not isinstance(each, str | int | float | bool):
            raise bad_parameter(name, f"of {what} must be a text, a number, true or false")
    return dict(value)


def _input(value: object) -> tuple[Input, bytes]:
    fields = _tensor(value, ("name", "datatype", "shape", "parameters", "data"))
    name = fields["name"]
    dtype, shape = read_datatype(str(fields.get("datatype")), name), _shape(name, fields.get("shape"))
    parameters = read_parameters(fields.get("parameters"), f"the tensor '{name}'")
    window = read_window(parameters, name, (_BINARY_SIZE,))
    size = parameters.get(_BINARY_SIZE)
    if [window is not None, size is not None, "data" in fields].count(True) != 1:
        raise bad_tensor(name, f"needs one of 'data', {_BINARY_SIZE} and shared_memory_region")
    if window is not None:
        return Input(name, dtype, shape, window=window), _PLAIN
    if size is None:
        return Input(name, dtype, shape), _PLAIN + from_json(name, dtype, shape, fields["data"])
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 1 << 40:
        raise bad_tensor(name, f"needs {_BINARY_SIZE} to be a number of bytes")
    return Input(name, dtype, shape), _MARK + str(size).encode()


def _output(value: object) -> WantedOutput:
    fields = _tensor(value, ("name", "parameters"))
    name = fields["name"]
    parameters = read_parameters(fields.get("parameters"), f"the tensor '{name}'")
    return WantedOutput(name, read_window(parameters, name, (_BINARY,)), read_flag(parameters, _BINARY))


def _tensor(value: object, known: tuple[str, ...]) -> dict[str, Any]:
    """A tensor's fields, with its name. Raises InvalidArgument."""
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise InvalidArgument("Each input and output must be an object with a 'name'.", fields={"name": "is required"})
    for name in value:
        if name not in known:
            raise bad_tensor(value["name"], f"has the field '{name}', which is not known; there are {', '.join(known)}")
    return value


def _shape(name: str, value: object) -> tuple[int, ...]:
    if isinstance(value, list) and all(isinstance(each, int) and not isinstance(each, bool) for each in value):
        if all(abs(each) < 1 << 63 for each in value):
            return tuple(value)
        raise bad_tensor(name, "has a dimension in its shape that is too large for an array")
    raise bad_tensor(name, "needs 'shape' to be an array of whole numbers")


def _list(document: Mapping[str, Any], field: str) -> list[Any]:
    value = document.get(field)
    if value is None:
        return []
    if not isinstance(value, list):
        raise InvalidArgument(f"'{field}' must be an array.", fields={field: "must be an array"})
    return value
