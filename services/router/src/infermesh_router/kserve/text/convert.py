"""Converts a body of /v2/models/NAME/generate, or the inputs of a language model, to the job of a completion."""

from dataclasses import dataclass

import orjson
from google.api.httpbody_pb2 import HttpBody

from infermesh.tensor.v1.tensor_pb2 import Tensor
from infermesh_router.kserve.infer.parameters import EMPTY_FINAL
from infermesh_router.kserve.tensors.datatypes import BYTES, NAMES, bad_tensor, check_size, show
from infermesh_router.kserve.tensors.values import InferAsk, Input
from infermesh_router.kserve.text.schema import (
    EXCLUDE,
    INPUT,
    OUTPUT,
    SAMPLING,
    STREAM,
    GenerateBody,
    completion_fields,
    read_flag,
)
from infermesh_router.openai.bodies import BodyRules, check_document, take_body
from infermesh_router.openai.conversion import Converted
from infermesh_router.openai.convert.completion import completion_job
from infermesh_router.openai.errors import invalid
from infermesh_router.openai.parse import parse_body
from infermesh_router.openai.schema.completion import CompletionRequest
from infermesh_router.openai.schema.hints import list_hints
from infermesh_runtime.tensors import to_numpy

_FLAGS = (STREAM, EXCLUDE)
_TEXT_INPUTS = (INPUT, SAMPLING)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextForm:
    """What an answer needs to know of its request."""

    model: str
    id: str
    before: str
    """The text that the answer begins with."""
    ends_empty: bool
    """Whether a stream ends with an empty response."""


def convert_whole(message: bytes, rules: BodyRules, model: str) -> Converted:
    """The job of a body of /generate. Raises InvalidArgument."""
    return _convert(message, rules, model, stream=False)


def convert_stream(message: bytes, rules: BodyRules, model: str) -> Converted:
    """The job of a body of /generate_stream. Raises InvalidArgument."""
    return _convert(message, rules, model, stream=True)


def convert_either(message: bytes, rules: BodyRules, model: str) -> Converted:
    """The job of a request of ModelStreamInfer, which says itself whether it streams. Raises InvalidArgument."""
    return _convert(message, rules, model, stream=None)


def _convert(message: bytes, rules: BodyRules, model: str, *, stream: bool | None) -> Converted:
    raw = take_body(message, rules)
    body = parse_body(GenerateBody, raw, ignore_unknown=False, check=check_document).request
    asked = read_flag(body, STREAM)
    if stream is False and asked:
        raise invalid(STREAM, "must be false here; /generate_stream and ModelStreamInfer stream")
    streams = bool(asked) if stream is None else stream
    without_input = read_flag(body, EXCLUDE) is not False
    if streams and not without_input:
        raise invalid(EXCLUDE, "must be true in a stream")
    document = {**completion_fields(body), "model": model, "stream": streams}
    parsed = parse_body(CompletionRequest, orjson.dumps(document), ignore_unknown=rules.ignore_unknown)
    form = TextForm(
        model=model,
        id=body.id or "",
        before="" if without_input else body.text_input,
        ends_empty=bool((body.parameters or {}).get(EMPTY_FINAL)),
    )
    return Converted(completion_job(parsed.request), parsed.ignored + list_hints(parsed.request), form)


def is_text(ask: InferAsk) -> bool:
    """Whether a request is for a language model: one of its inputs has the name of a text to continue."""
    return any(each.name == INPUT and each.dtype == BYTES for each in ask.inputs)


def text_message(ask: InferAsk) -> bytes:
    """The serialised HttpBody of the body that such a request stands for. Raises InvalidArgument."""
    for wanted in ask.outputs:
        if wanted.name != OUTPUT:
            raise bad_tensor(wanted.name, f"is not an output of a language model; there is {OUTPUT}")
        if wanted.window is not None:
            raise bad_tensor(wanted.name, "is text, which is not put into shared memory")
    body: dict[str, object] = {"id": ask.id, "parameters": dict(ask.parameters)}
    for each in ask.inputs:
        body[each.name] = _read_input(each)
    return bytes(HttpBody(data=orjson.dumps(body)).SerializeToString())


def _read_input(given: Input) -> str | bool:
    """The only element of an input."""
    is_flag = given.name in _FLAGS
    if not is_flag and given.name not in _TEXT_INPUTS:
        known = ", ".join((*_TEXT_INPUTS, *_FLAGS))
        raise bad_tensor(given.name, f"is not an input of a language model; there are {known}")
    if given.window is not None:
        raise bad_tensor(given.name, "is text, which is not taken from shared memory")
    wanted = "BOOL" if is_flag else "BYTES"
    if NAMES[given.dtype] != wanted:
        raise bad_tensor(given.name, f"must be {wanted}, not {NAMES[given.dtype]}")
    if given.shape not in ((1,), (1, 1)):
        raise bad_tensor(given.name, f"must have the shape [1], not {show(given.shape)}")
    check_size(given.name, given.dtype, given.shape, len(given.data))
    tensor = Tensor(name=given.name, dtype=given.dtype, shape=given.shape, data=bytes(given.data))
    element = to_numpy(tensor, field=given.name).reshape(-1).tolist()[0]
    if isinstance(element, bool):
        return element
    try:
        return bytes(element).decode()
    except UnicodeDecodeError:
        raise bad_tensor(given.name, "is not UTF-8") from None
