"""Writes the body that answers /v2/models/NAME/infer: JSON, and behind it the elements of binary outputs."""

from dataclasses import dataclass, replace

import orjson

from infermesh_router.kserve.infer.parameters import BINARY_OUTPUT, read_flag, window_parameters
from infermesh_router.kserve.tensors.datatypes import NAMES
from infermesh_router.kserve.tensors.json_values import to_json
from infermesh_router.kserve.tensors.values import VERSION, InferAnswer, InferAsk, Output
from infermesh_router.kserve.tensors.wire import Bytes, opening
from infermesh_router.requests.parsing_pool import ParsingPool

_LIGHT_BYTES = 16 * 1024
_TYPE_FIELD, _DATA_FIELD = 1, 2
_JSON, _BINARY = b"application/json", b"application/octet-stream"


@dataclass(frozen=True, slots=True)
class Body:
    """A body of parts."""

    parts: tuple[Bytes, ...]
    """The JSON first."""
    is_binary: bool
    """Whether elements stand behind the JSON, whose length a header must tell then."""

    @property
    def json_bytes(self) -> int:
        """The length of the JSON."""
        return len(self.parts[0])

    def as_http_body(self) -> bytes:
        """The serialised HttpBody, made with one copy."""
        kind, size = (_BINARY if self.is_binary else _JSON), sum(map(len, self.parts))
        return b"".join((opening(_TYPE_FIELD, len(kind)), kind, opening(_DATA_FIELD, size), *self.parts))


async def write_rest(ask: InferAsk, answer: InferAnswer, pool: ParsingPool) -> Body:
    """The body that answers a request. Raises InvalidArgument for elements that JSON cannot hold."""
    binary = _binary_names(ask)
    plain = [output for output in answer.outputs if output.window is None and output.name not in binary]
    texts = [
        to_json(output) if len(output.data) <= _LIGHT_BYTES else await _to_json_elsewhere(output, pool)
        for output in plain
    ]
    data = dict(zip((output.name for output in plain), texts, strict=True))
    described = [_describe(output, data.get(output.name)) for output in answer.outputs]
    head = {"model_name": answer.model, "model_version": VERSION, **({"id": ask.id} if ask.id else {})}
    json = orjson.dumps(head)[:-1] + b',"outputs":[' + b",".join(described) + b"]}"
    behind = [output.data for output in answer.outputs if output.window is None and output.name in binary]
    return Body((json, *behind), bool(behind))


class _All:
    """Contains every name."""

    def __contains__(self, name: object) -> bool:
        return True


def _binary_names(ask: InferAsk) -> "_All | frozenset[str]":
    """The outputs whose elements stand behind the JSON."""
    every = bool(read_flag(ask.parameters, BINARY_OUTPUT))
    if not ask.outputs:
        return _All() if every else frozenset()
    return frozenset(each.name for each in ask.outputs if (every if each.binary is None else each.binary))


async def _to_json_elsewhere(output: Output, pool: ParsingPool) -> bytes:
    described = replace(output, data=b"")
    _, (text,) = await pool.run(_to_json_heavy, bytes(output.data), described)
    return text


def _to_json_heavy(data: bytes, described: Output) -> tuple[None, list[bytes]]:
    return None, [to_json(replace(described, data=data))]


def _describe(output: Output, data: bytes | None) -> bytes:
    """The JSON of an output. Without `data` its elements are binary or in shared memory."""
    fields: dict[str, object] = {"name": output.name, "datatype": NAMES[output.dtype], "shape": output.shape}
    if output.window is not None:
        fields["parameters"] = window_parameters(output.window)
    elif data is None:
        fields["parameters"] = {"binary_data_size": len(output.data)}
    text = orjson.dumps(fields)
    return text if data is None else text[:-1] + b',"data":' + data + b"}"
