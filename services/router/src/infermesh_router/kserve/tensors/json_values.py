"""Turns the numbers and texts of JSON into elements, and back. NaN and infinities are written as Triton writes them."""

import json
from itertools import chain
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from infermesh.tensor.v1.tensor_pb2 import DataType
from infermesh_router.kserve.tensors.contents import output_array
from infermesh_router.kserve.tensors.datatypes import BYTES, NAMES, bad_tensor, count_elements, show
from infermesh_router.kserve.tensors.values import Output
from infermesh_runtime.errors import InvalidArgument
from infermesh_runtime.tensors import from_numpy, numpy_dtype

_FLOATS = ("FP16", "FP32", "FP64")


def from_json(name: str, dtype: DataType, shape: tuple[int, ...], data: object) -> bytes:
    """The elements of an array of JSON, nested or flat. Raises InvalidArgument, which names the tensor."""
    elements, count = _flatten(name, data), count_elements(name, shape)
    if len(elements) != count:
        raise bad_tensor(name, f"has the shape {show(shape)} and needs {count} elements; it has {len(elements)}")
    allowed = _allowed(name, dtype)
    for element in elements:
        if type(element) not in allowed:
            raise bad_tensor(name, f"is {NAMES[dtype]} and must not have the element {_show_element(element)}")
    if dtype == BYTES:
        texts = np.empty(count, object)
        texts[:] = elements
        return bytes(from_numpy(texts, name=name, dtype=dtype).data)
    kind = numpy_dtype(dtype)
    try:
        with np.errstate(over="ignore"):
            return np.array(elements, kind).tobytes()
    except OverflowError:
        limits = np.iinfo(kind) if kind.kind in "iu" else np.finfo(kind)
        problem = f"is {NAMES[dtype]}, whose elements are from {limits.min} to {limits.max}"
        raise bad_tensor(name, problem) from None


def to_json(output: Output) -> bytes:
    """The elements of an output as a flat array of JSON. Raises InvalidArgument if JSON cannot hold them."""
    array = output_array(output).ravel()
    name = NAMES[output.dtype]
    if output.dtype == BYTES:
        return _texts(output.name, array)
    if name.startswith(("BF", "FP8")):
        raise _only_binary(output.name, f"is {name}, which JSON has no numbers for")
    if name in _FLOATS:
        if not np.isfinite(array).all():
            return json.dumps(array.tolist(), separators=(",", ":")).encode()
        array = array.astype(np.float32) if name == "FP16" else array
    return orjson.dumps(np.ascontiguousarray(array), option=orjson.OPT_SERIALIZE_NUMPY)


def _texts(name: str, array: NDArray[Any]) -> bytes:
    try:
        return orjson.dumps([element.decode() for element in array.tolist()])
    except UnicodeDecodeError:
        raise _only_binary(name, "has bytes that are not UTF-8") from None


def _only_binary(name: str, problem: str) -> InvalidArgument:
    return bad_tensor(name, f"{problem}; ask for it with the parameter binary_data true")


def _allowed(name: str, dtype: DataType) -> tuple[type, ...]:
    """The types that elements of JSON may have."""
    known = NAMES[dtype]
    if known in _FLOATS:
        return (float, int)
    if known.startswith(("INT", "UINT")):
        return (int,)
    if known in ("BOOL", "BYTES"):
        return (bool,) if known == "BOOL" else (str,)
    raise bad_tensor(name, f"is {known}, which JSON has no numbers for: send it as binary data")


def _flatten(name: str, data: object) -> list[Any]:
    if not isinstance(data, list):
        raise bad_tensor(name, "needs 'data' to be an array")
    while data and isinstance(data[0], list):
        if not all(isinstance(part, list) for part in data):
            raise bad_tensor(name, "mixes arrays and elements in 'data'")
        data = list(chain.from_iterable(data))
    return data


def _show_element(element: object) -> str:
    text = "an array" if isinstance(element, list) else json.dumps(element)
    return text if len(text) <= 40 else text[:40] + "…"
